"""The thoughts that a client sends back: are they ours, and unchanged? (WIRE.md section 2.2, round trip rules)"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sestet.contract.errors import ApiError, invalid
from sestet.contract.requests import InputBlock, RedactedThinkingBlock, ThinkingBlock
from sestet.turn.seals import Owner, Seals, Verdict

Policy = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class ThoughtPolicy:
    """What happens to a thought that was altered, and to one that was made elsewhere."""

    changed: Policy = "refuse"
    foreign: Policy = "drop"


class ThoughtChecker:
    """Checks the thoughts of one request. `dropped` counts those that were left out instead of refused."""

    def __init__(self, seals: Seals, owner: Owner, policy: ThoughtPolicy) -> None:
        self.dropped = 0
        self._seals = seals
        self._owner = owner
        self._policy = policy

    def check(self, blocks: Sequence[InputBlock], path: str) -> dict[int, str]:
        """The texts of one message's genuine thoughts, by their place; those of one reply must come in the order they
        were sent."""
        genuine: dict[int, str] = {}
        last: dict[bytes, int] = {}
        for position, block in enumerate(blocks):
            match block:
                case ThinkingBlock():
                    error = f"Invalid `signature` in `thinking` block; {_SEND_BACK}"
                    opened = self._seals.open(self._owner, block.signature, block.thinking)
                case RedactedThinkingBlock():
                    error = f"Invalid `data` in `redacted_thinking` block; {_SEND_BACK}"
                    opened = self._seals.open(self._owner, block.data, None)
                case _:
                    continue
            verdict = opened.verdict
            if verdict is Verdict.GENUINE:
                if last.get(opened.reply, -1) >= opened.index:
                    verdict = Verdict.CHANGED
                last[opened.reply] = opened.index
            if verdict is Verdict.GENUINE:
                genuine[position] = opened.text
            else:
                self._drop_or_refuse(verdict, invalid(error, f"{path}.{position}"))

        return genuine

    def _drop_or_refuse(self, verdict: Verdict, refusal: ApiError) -> None:
        policy = self._policy.changed if verdict is Verdict.CHANGED else self._policy.foreign
        if policy == "refuse":
            raise refusal
        self.dropped += 1


_SEND_BACK = "send thinking blocks back exactly as they came, in their order, or leave them out"
