"""What GLM-5.2 costs and how long it takes behind its makers' API, as published at a date."""

from __future__ import annotations

from dataclasses import dataclass

MILLION = 1_000_000


@dataclass(frozen=True)
class ApiTerms:
    """Published terms.

    Attributes:
        input_dollars: of a million prompt tokens that are read.
        cached_dollars: of a million prompt tokens that were read before.
        output_dollars: of a million tokens of the answer.
        answers: (prompt tokens, seconds to the whole answer) that somebody measured and published.
        command: a first request; the key is the user's own.
    """

    provider: str
    model: str
    most_context: int
    input_dollars: float
    cached_dollars: float
    output_dollars: float
    date: str
    source: str
    answers: tuple[tuple[int, float], ...]
    latency_source: str
    command: str


API_TERMS = ApiTerms(
    provider="z.ai",
    model="GLM-5.2",
    most_context=1_048_576,
    input_dollars=1.40,
    cached_dollars=0.26,
    output_dollars=4.40,
    date="price of 2026-08",
    source="https://dev.to/owen_fox/glm-53-api-pricing-endpoints-and-reasoningeffort-40oa, which quotes z.ai's table",
    answers=((24_709, 5.0), (100_107, 9.6), (202_278, 11.1), (407_224, 20.9), (789_240, 48.6)),
    latency_source="https://github.com/NousResearch/hermes-agent/pull/45695",
    command=(
        'curl https://api.z.ai/api/paas/v4/chat/completions -H "Authorization: Bearer $ZAI_API_KEY" '
        '-H "Content-Type: application/json" '
        '-d \'{"model": "glm-5.2", "messages": [{"role": "user", "content": "QUESTION"}]}\''
    ),
)


def prompt_dollars(prompt_tokens: int, *, cached: float) -> float:
    """Price of a prompt of which a share was read before, its answer not counted."""
    rate = cached * API_TERMS.cached_dollars + (1 - cached) * API_TERMS.input_dollars
    return prompt_tokens * rate / MILLION


def answer_seconds(prompt_tokens: int) -> float | None:
    """How long the nearest published prompt that is at least as long took; None beyond the longest."""
    return next((seconds for tokens, seconds in API_TERMS.answers if tokens >= prompt_tokens), None)
