"""What the services need of the world: an engine, and the books that every request is written down in."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from sestet.contract.deltas import Delta, Generation, Weights
from sestet.contract.events import Usage
from sestet.ledger.entry import Kept, Opening, Settlement


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


class Account(Protocol):
    """One request's line in the books."""

    def begin(self) -> Awaitable[None]:
        """Done when a kill could no longer lose that there is such a request."""
        ...

    def settle(self, settlement: Settlement, kept: Kept | None = None) -> Awaitable[None]:
        """Takes effect at once, exactly once; what is returned is done when a kill could no longer lose it."""
        ...


class Books(Protocol):
    """Where every request to a model is written down."""

    def check(self) -> None:
        """529 while a request could not be accounted for."""
        ...

    def open(self, opening: Opening, usage: Callable[[], Usage]) -> Account:
        """`usage` is asked now and then for what was used so far."""
        ...
