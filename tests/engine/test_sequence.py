import pytest

from longlens.cache.pages import PagePool
from longlens.engine.sampling import Sampler, SamplingParams
from longlens.engine.sequence import CancelFlag, Request, TokenSequence, check_length, check_token_ids
from longlens.engine.token_context import TokenContext
from longlens.errors import ContextLengthError, UsageError
from longlens.model.state import CacheSpec, CacheTensor

SPEC = CacheSpec((CacheTensor("latent", 0, 1, "f32", 0),), page_tokens=4)


def make_sequence(*, num_tokens=5, max_tokens=3, on_progress=None):
    context = TokenContext.empty(PagePool(SPEC, 8, "cpu"))
    context.extend(range(num_tokens))
    params = SamplingParams(max_tokens=max_tokens)
    request = Request(range(num_tokens), params, on_progress=on_progress)
    sampler = Sampler(params, (), (), vocab_size=10)
    return TokenSequence(1, context, request, sampler, submitted_at=0.0, keeps_context=False)


def read(sequence, num_tokens, seconds=1.0):
    sequence.context.cache.reserve(num_tokens)
    sequence.context.cache.commit(num_tokens)
    sequence.note_step(num_tokens, seconds)


def test_a_sequence_waits_reads_then_decodes():
    sequence = make_sequence()
    phases = [sequence.phase]
    sequence.begin()
    phases.append(sequence.phase)
    read(sequence, 4)
    phases.append(sequence.phase)
    read(sequence, 1)
    phases.append(sequence.phase)

    assert phases == ["waiting", "prefill", "prefill", "decode"]


def test_a_sequence_with_nothing_to_read_decodes_at_once():
    sequence = make_sequence(num_tokens=0)

    sequence.begin()

    assert sequence.phase == "decode"


def test_reading_and_writing_are_counted_apart():
    sequence = make_sequence()
    sequence.begin()
    read(sequence, 4, seconds=2.0)
    read(sequence, 1, seconds=1.0)
    sequence.accept(7)
    read(sequence, 1, seconds=0.5)

    record = sequence.record("cancelled")

    assert (record.read_tokens, record.prefill_s, record.decode_s) == (5, 3.0, 0.5)
    assert (record.prompt_tokens, record.completion_tokens, record.finish_reason) == (5, 1, "cancelled")


def test_progress_is_told_while_reading_only():
    told = []
    sequence = make_sequence(on_progress=lambda done, total: told.append((done, total)))
    sequence.begin()
    for num_tokens in (4, 1):
        read(sequence, num_tokens)
        sequence.report_progress()
    sequence.accept(7)
    read(sequence, 1)
    sequence.report_progress()

    assert told == [(4, 5), (5, 5)]


@pytest.mark.parametrize(("max_tokens", "rows"), [(3, 7), (1, 5), (0, 5), (None, 19)])
def test_the_last_tokens_row_is_never_computed(max_tokens, rows):
    assert make_sequence(max_tokens=max_tokens).final_rows(max_context=20) == rows


def test_a_sequence_is_full_at_its_limit_or_the_contexts():
    sequence = make_sequence(max_tokens=2)
    sequence.accept(1)
    assert not sequence.is_full(max_context=20)
    assert sequence.is_full(max_context=6)
    sequence.accept(1)
    assert sequence.is_full(max_context=20)


def test_a_raised_flag_stays_raised():
    flag = CancelFlag()
    assert not flag.is_cancelled
    flag.cancel()
    flag.cancel()
    assert flag.is_cancelled


def test_a_request_keeps_its_tokens_when_the_callers_list_changes():
    token_ids = [1, 2]
    request = Request(token_ids)
    token_ids.append(3)

    assert request.token_ids == (1, 2)


@pytest.mark.parametrize("token_ids", [[-1], [0, 10], [9, 10, 9]])
def test_unknown_tokens_are_refused_by_number(token_ids):
    bad = next(token_id for token_id in token_ids if token_id in (-1, 10))

    with pytest.raises(UsageError, match=f"token id {bad} is not in the vocabulary of 10"):
        check_token_ids(token_ids, vocab_size=10)


@pytest.mark.parametrize("token_ids", [[], [0], [9]])
def test_known_tokens_pass(token_ids):
    check_token_ids(token_ids, vocab_size=10)


@pytest.mark.parametrize(("prompt", "answer"), [(7, 3), (10, 0), (9, None), (1, 9)])
def test_what_fits_exactly_passes(prompt, answer):
    check_length(prompt, answer, max_context=10)


@pytest.mark.parametrize(
    ("prompt", "answer", "mend"),
    [
        (7, 4, "ask for at most 3 tokens, or load the model with --context 11"),
        (10, None, "shorten the prompt, or load the model with --context 11"),
        (11, 0, "shorten the prompt, or load the model with --context 11"),
    ],
)
def test_one_token_too_many_is_refused_with_what_would_fit(prompt, answer, mend):
    with pytest.raises(ContextLengthError, match="do not fit a context of 10") as caught:
        check_length(prompt, answer, max_context=10)

    assert caught.value.mend == mend


def test_an_empty_prompt_is_refused():
    with pytest.raises(UsageError, match="the prompt is empty"):
        check_length(0, 1, max_context=10)
