"""Print how exactly longlens agrees with transformers and llama.cpp, as the tables of two pages.

    python -m tests.agreement.make_table              the tables of docs/agreement.md
    python -m tests.agreement.make_table mutations    the table of docs/experiments/mutations.md

The numbers come from the functions that the tests use. One thread, so that sums have one order; another machine may
differ in the last bits.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator

import pytest
import torch

from tests.agreement import comparisons
from tests.agreement.comparisons import Agreement, SeedOutcome, recorded
from tests.agreement.fixture_models import RECORDED_AS
from tests.agreement.mutations import MUTATIONS

RECORDED_WITH = "transformers 5.23.0 on torch 2.13.0; llama.cpp as in llama-cpp-python 0.3.36"
MUTATED_CASES = (("glm_topk8", 200), ("glm_topk48", 200), ("deepseek_topk8", 200), ("glm_topk4096", 200))


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def choices(agreement: Agreement) -> str:
    if agreement.num_rows == 0:
        return "none to make"
    if agreement.num_other_rows:
        return f"{agreement.num_other_rows} of {agreement.num_rows} differ"
    return f"{agreement.num_rows} of {agreement.num_rows} identical"


def transformers_rows() -> Iterator[tuple[object, ...]]:
    for case, length in comparisons.case_lengths():
        agreement = comparisons.with_transformers(case, length)
        theirs = float(recorded(case)[f"{length}/float64_difference"])
        yield case, length, f"{agreement.difference:.1e}", choices(agreement), f"{theirs:.1e}"


def seed_rows() -> Iterator[tuple[object, ...]]:
    cases = sorted({key.split("/")[0] for key in recorded("arbitrary_seeds")})
    for case in cases:
        outcomes = comparisons.with_arbitrary_seeds(case)
        agreeing = [outcome for outcome in outcomes if outcome.first_other_row is None]
        others = [exception(outcome) for outcome in outcomes if outcome.first_other_row is not None]
        most = max(outcome.difference for outcome in agreeing)
        yield case, f"{len(agreeing)} of {len(outcomes)}", f"{most:.1e}", "; ".join(others) or "none"


def exception(outcome: SeedOutcome) -> str:
    place = f"seed {outcome.seed}: row {outcome.first_other_row}, gap {outcome.gap:.1e}"
    return f"{place}, then {outcome.difference:.1e}"


def path_rows() -> Iterator[tuple[object, ...]]:
    for case in comparisons.CHUNKED_CASES:
        chunked = [f"{comparisons.in_chunks(case, chunk):.1e}" for chunk in comparisons.CHUNK_SIZES]
        yield case, *chunked, f"{comparisons.beside_another(case):.1e}"


def form_rows() -> Iterator[tuple[object, ...]]:
    for case in ("glm_topk8", "glm_topk48", "deepseek_topk8"):
        for form in comparisons.FORMS:
            differences = [
                comparisons.masked_against_gathered(case, form, dtype) for dtype in (torch.float64, torch.float32)
            ]
            yield case, form, *(f"{difference:.1e}" for difference in differences)


def fixture_rows() -> Iterator[tuple[object, ...]]:
    for fixture in RECORDED_AS:
        for length in comparisons.FIXTURE_LENGTHS:
            agreement = comparisons.with_dequantised(fixture, length)
            yield fixture, length, f"{agreement.difference:.1e}", choices(agreement)


def llama_cpp_rows() -> Iterator[tuple[object, ...]]:
    for length in comparisons.LLAMA_CPP_LENGTHS:
        outcome = comparisons.with_llama_cpp(length)
        own = f"{outcome.num_other_rows} of {outcome.num_rows}, gap {outcome.widest_gap:.0e}"
        yield length, f"{outcome.replayed:.1e}", own, f"{outcome.free:.2f} ({outcome.num_far_rows} of {length} rows)"


def agreement_tables() -> Iterator[str]:
    """Every table of docs/agreement.md."""
    ours = f"plain torch {torch.__version__} in fp32 on the CPU ({platform.machine()})"
    yield f"Recorded with {RECORDED_WITH}. Ours: {ours}."
    yield "\n### transformers, committed sequences\n"
    heads = ["case", "tokens", "max abs. difference", "rows that choose", "transformers fp32 to fp64"]
    yield from table(heads, transformers_rows())
    yield "\n### transformers, arbitrary sequences of 200 tokens\n"
    yield from table(["case", "agree", "max abs. difference of these", "the others"], seed_rows())
    yield "\n### The same sequence on other paths\n"
    heads = ["case", *(f"chunks of {chunk}" for chunk in comparisons.CHUNK_SIZES), "beside another sequence"]
    yield from table(heads, path_rows())
    yield "\n### Masked forms of attention against gathered rows\n"
    yield from table(["case", "form", "fp64", "fp32"], form_rows())
    yield "\n### Files, against transformers on the dequantised weights\n"
    yield from table(["fixture", "tokens", "max abs. difference", "rows that choose"], fixture_rows())
    yield "\n### llama.cpp on tiny-glm-F32.gguf\n"
    heads = ["tokens", "max abs. difference, its choices replayed", "rows we would choose otherwise", "choosing freely"]
    yield from table(heads, llama_cpp_rows())


def mutation_rows() -> Iterator[tuple[object, ...]]:
    for name in ("none", *MUTATIONS):
        with pytest.MonkeyPatch.context() as patch:
            if name != "none":
                MUTATIONS[name](patch)
            agreements = [comparisons.with_transformers(case, length) for case, length in MUTATED_CASES]
            replayed = comparisons.with_llama_cpp(64).replayed
        yield name, *(f"{one.difference:.1e}; {choices(one)}" for one in agreements), f"{replayed:.1e}"


def mutation_table() -> Iterator[str]:
    """The table of docs/experiments/mutations.md."""
    heads = ["mutation", *(f"{case}, {length} tokens" for case, length in MUTATED_CASES), "llama.cpp replay, 64 tokens"]
    yield from table(heads, mutation_rows())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in mutation_table() if sys.argv[1:] == ["mutations"] else agreement_tables():
        print(line)
