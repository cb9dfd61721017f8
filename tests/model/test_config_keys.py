from __future__ import annotations

import pytest

from longlens.errors import ConfigError
from longlens.model.config_keys import KeyReader


def reader(**values: object) -> KeyReader:
    return KeyReader(values, "config.json")


def test_a_missing_key_is_an_error_by_name_and_by_file() -> None:
    with pytest.raises(ConfigError, match=r"config\.json: the key 'hidden_size' is missing"):
        reader().integer("hidden_size")


def test_null_counts_as_missing() -> None:
    assert reader(depth=None).integer("depth", default=7) == 7
    assert not reader(depth=None).has("depth")
    with pytest.raises(ConfigError, match="missing"):
        reader(depth=None).flag("depth")


def test_a_default_of_false_or_zero_is_a_default() -> None:
    assert reader().flag("bias", default=False) is False
    assert reader().integer("depth", default=0, least=0) == 0


@pytest.mark.parametrize("value", [True, 1.0, "1", [1], -1, 0, 2**48 + 1, 10**400])
def test_what_is_not_a_whole_number_in_range_is_refused_by_name_and_value(value: object) -> None:
    with pytest.raises(ConfigError, match="depth is"):
        reader(depth=value).integer("depth")


def test_a_whole_number_has_a_greatest_value_where_it_becomes_a_length() -> None:
    assert reader(depth=9).integer("depth", most=9) == 9
    with pytest.raises(ConfigError, match="expected a whole number from 1 to 9"):
        reader(depth=10).integer("depth", most=9)


@pytest.mark.parametrize(
    "value", [True, "1", -1.0, 0, 0.0, float("nan"), float("inf"), 1e300, 5e-324, 10**400, -(10**400), None, {}]
)
def test_what_is_not_a_number_above_zero_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="eps"):
        reader(eps=value).number("eps")


def test_numbers_may_be_written_whole_and_zero_only_where_it_is_allowed() -> None:
    assert reader(theta=8000000).number("theta") == 8e6
    assert reader(mscale=0).number("mscale", may_be_zero=True) == 0.0


def test_a_choice_is_one_of_its_words() -> None:
    assert reader(act="silu").choice("act", ("silu", "gelu")) == "silu"
    with pytest.raises(ConfigError, match="act is 'relu', expected 'silu' or 'gelu'"):
        reader(act="relu").choice("act", ("silu", "gelu"))
    with pytest.raises(ConfigError, match="act is"):
        reader(act=["silu"]).choice("act", ("silu",))


@pytest.mark.parametrize("value", ["FS", 3, {"a": 1}])
def test_a_list_is_a_list_and_no_text(value: object) -> None:
    with pytest.raises(ConfigError, match="expected a list"):
        reader(types=value).sequence("types")


@pytest.mark.parametrize("value", [1, 0, "true"])
def test_a_flag_is_true_or_false_and_no_number(value: object) -> None:
    with pytest.raises(ConfigError, match="expected true or false"):
        reader(bias=value).flag("bias")


def test_a_section_is_an_object_and_names_itself_in_errors() -> None:
    with pytest.raises(ConfigError, match=r"config\.json: rope: the key 'theta' is missing"):
        reader(rope={}).section("rope").number("theta")
    with pytest.raises(ConfigError, match="expected an object"):
        reader(rope=[1]).section("rope")


def test_keys_that_nobody_asked_for_are_named_in_their_order() -> None:
    keys = reader(depth=1, novelty=2, dropout=0.1, other=3)
    keys.integer("depth")
    assert keys.unknown(frozenset({"dropout"})) == ("novelty", "other")


def test_a_prefix_stands_before_every_key_and_other_prefixes_are_not_looked_at() -> None:
    keys = KeyReader({"llama.depth": 2, "llama.new": 1, "general.name": "x"}, "GGUF metadata", prefix="llama.")
    assert keys.integer("depth") == 2
    assert keys.unknown(frozenset()) == ("llama.new",)
    with pytest.raises(ConfigError, match=r"llama\.width"):
        keys.integer("width")


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        reader(act="x" * 500).choice("act", ("silu",))
    assert len(caught.value.fault) < 150
