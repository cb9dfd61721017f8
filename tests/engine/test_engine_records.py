"""What the engine tells about its work: progress, counts and times."""

from longlens.engine.events import FinishedEvent, TokenEvent
from longlens.engine.sampling import SamplingParams
from longlens.engine.sequence import CancelFlag, Request

PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8)  # 19 tokens: chunks of 8, 8 and 3


def ask(token_ids=PROMPT, *, cancel=None, on_progress=None, **sampling):
    params = SamplingParams(**{"max_tokens": 6, **sampling})
    return Request(token_ids, params, (), cancel or CancelFlag(), on_progress)


def tokens_of(events):
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def answer(engine, request):
    events = list(engine.generate(request))
    return tokens_of(events), events[-1]


def run_all(engine):
    events = []
    while engine.has_work:
        events.extend(engine.step())
    return events


def test_progress_counts_what_is_read(make_world):
    told = []

    answer(make_world().engine, ask(on_progress=lambda done, total: told.append((done, total))))

    assert told == [(8, 19), (16, 19), (19, 19)]


class Clock:
    """Time stands still but for the model, which takes a second a layer."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_a_second(self):
        self.now += 1.0


def test_the_record_tells_counts_and_times(make_world):
    clock = Clock()
    world = make_world(clock=clock)
    world.model.between_layers = clock.pass_a_second  # two layers: two seconds a step

    events = world.engine.generate(ask(max_tokens=4))
    for event in events:
        if isinstance(event, TokenEvent):
            clock.now += 100  # the caller takes its time
    record = event.record

    assert (record.prompt_tokens, record.cached_tokens, record.read_tokens, record.completion_tokens) == (19, 0, 19, 4)
    assert (record.prefill_s, record.decode_s, record.ttft_s) == (6.0, 6.0, 6.0)
    assert record.finish_reason == "length"


def test_waiting_in_the_queue_is_part_of_the_time_to_the_first_token(make_world):
    clock = Clock()
    world = make_world(clock=clock, num_pages=16)
    world.model.between_layers = clock.pass_a_second
    world.engine.add(ask((1,), max_tokens=60))
    late = world.engine.add(ask((1,), max_tokens=10)).number

    events = run_all(world.engine)

    (record,) = [event.record for event in events if isinstance(event, FinishedEvent) and event.sequence == late]
    assert (record.prefill_s, record.ttft_s) == (2.0, 122.0)
