"""What the services need of the world: an engine, and someone to tell how each request ended."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sestet.contract.deltas import Delta, Generation, Weights
from sestet.contract.errors import ErrorKind
from sestet.contract.events import StopReason, Usage


class Engine(Protocol):
    """Turns prompts into tokens. Every failure is an `ApiError`; none names a file, an address or a class."""

    @property
    def weights(self) -> Weights: ...

    @property
    def slots(self) -> int:
        """How many generations run at once; more of them wait with the caller."""
        ...

    @property
    def enforces_grammars(self) -> bool:
        """Whether what is said keeps to the grammar of a job; what does not is then the engine's fault."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a generation started now would make progress."""
        ...

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> tuple[int, ...]:
        """The tokens of a rendered prompt, each piece apart; control tokens spelled in it count as such. Not `begins`:
        the pieces go on where another prompt ends."""
        ...

    def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        """Deltas up to one `Finished`. Closing the generator stops the engine within a token."""
        ...


Ending = Literal["finished", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one request to a model ended, told exactly once. Times are in seconds."""

    request_id: str
    key_id: str
    model: str
    weights_id: str
    ending: Ending
    usage: Usage
    stop_reason: StopReason | None
    error: ErrorKind | None
    first_token_s: float | None
    duration_s: float


class Books(Protocol):
    """Where settlements go."""

    def settle(self, settlement: Settlement) -> None: ...
