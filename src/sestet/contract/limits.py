"""Limits by the minute as a client is told of them: what the rate headers are made of (WIRE.md section 0.2)."""

from typing import Literal, NamedTuple

LimitKind = Literal[
    "requests", "tokens", "input_tokens", "output_tokens", "priority_input_tokens", "priority_output_tokens"
]


class LimitState(NamedTuple):
    """How one limit stands: `limit` a minute, `remaining` of it (never below zero, exact), and the seconds from now
    until all of it is there again."""

    kind: LimitKind
    limit: int
    remaining: int
    reset_s: float
