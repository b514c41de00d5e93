"""What the services need of the world: an engine, and the books that every request is written down in."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sestet.contract.deltas import Delta, Generation, Held, Weights
from sestet.contract.events import Usage
from sestet.ledger.entry import Kept, Opening, Settlement


class Slot(Protocol):
    """A place in an engine that one request has for itself. What was computed there for one tenant is never used for
    another, nor does its time show."""

    @property
    def reused(self) -> int:
        """How many of the prompt's first tokens need not be computed: what the snapshot held, or what the tenant's
        last request left in this place. Never more than was really found."""
        ...

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        """Computes this beginning of the prompt and writes its state to the file `name` of the engine's folder; the
        file's bytes. 0 where it could not be written, and then there is no such file."""
        ...

    def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        """Deltas up to one `Finished`. Closing the generator stops the engine within a token. One at a time."""
        ...


class Encoder(Protocol):
    """Knows the vocabulary of the weights."""

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        """The tokens of each piece of a rendered prompt, apart; control tokens spelled in it count as such. Not
        `begins`: the pieces go on where another prompt ends."""
        ...


class Engine(Encoder, Protocol):
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

    @property
    def identity(self) -> str:
        """Of weights and engine: what one wrote into a snapshot is of use only to one with the same."""
        ...

    @property
    def snapshot_bytes_per_token(self) -> int:
        """How large snapshots become; 0 where this engine writes none."""
        ...

    def slot(self, tenant: str, prompt: tuple[int, ...], held: Held | None = None) -> AbstractAsyncContextManager[Slot]:
        """A place for this prompt, with what is `held` of it put there if that can be used."""
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
