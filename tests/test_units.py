from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlens.errors import UsageError
from longlens.units import GIB, KIB, MIB, TIB, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("48GiB", 48 * GIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("500MB", 500_000_000),
        ("4096", 4096),
        ("0", 0),
        ("7b", 7),
        ("1kib", KIB),
        (" 2 TiB ", 2 * TIB),
        ("1 TB", 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1GiB", "1e9", "48G", "48 GiBs", "1,5GiB", "1.GiB", "nan", "1 Gi B", "²GiB", "9" * 400 + "GiB"],
)
def test_what_is_not_a_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="48GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (MIB, "1.0 MiB"),
        (91 * GIB, "91.0 GiB"),
        (GIB + GIB // 2, "1.5 GiB"),
        (3 * TIB, "3.0 TiB"),
        (2000 * TIB, "2000.0 TiB"),
    ],
)
def test_sizes_are_written_with_the_largest_unit_that_fits(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize("unit", [KIB, MIB, GIB, TIB])
def test_a_size_just_below_a_unit_is_not_written_as_1024_of_the_smaller_one(unit: int) -> None:
    assert not format_bytes(unit - 1).startswith("1024.0")


@given(st.integers(min_value=0, max_value=2**60))
def test_what_is_written_can_be_read_again_within_its_last_digit(num_bytes: int) -> None:
    again = parse_bytes(format_bytes(num_bytes))
    # Half of the last digit, relative to at least one whole unit.
    assert abs(again - num_bytes) <= 0.05 * max(num_bytes, 1) + 1


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_usage_error(text: str) -> None:
    try:
        num_bytes = parse_bytes(text)
    except UsageError:
        num_bytes = 0
    assert num_bytes >= 0
