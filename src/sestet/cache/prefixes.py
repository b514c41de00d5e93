"""The prefixes of a prompt that may be cached: one for each block, told apart by everything before its end."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sestet.contract.caching import Level, Lifetime
from sestet.turn.render import Rendered


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt up to the end of one block: `tokens` long, and cached for `lifetime` if the block has a breakpoint.

    `key` is of everything that shaped these tokens and of whom they belong to: two prefixes with the same key are the
    same, of one workspace and one card."""

    key: bytes
    tokens: int
    level: Level
    lifetime: Lifetime | None


def prefixes(rendered: Rendered, lengths: Sequence[int], settings: str, salt: bytes) -> tuple[Prefix, ...]:
    """All of a prompt's. `lengths` are the tokens of its segments; `salt`, of at most 64 bytes, makes the keys those of
    one workspace and card; `settings` count where messages begin."""
    found = []
    chain = hashlib.blake2b(key=salt, digest_size=32)
    tokens = 0
    in_messages = False
    for block, segment, length in zip(rendered.blocks, rendered.segments, lengths, strict=False):
        if block.level == "messages" and not in_messages:
            in_messages = True
            _add(chain, settings)
        for piece in segment:
            _add(chain, piece)
        chain.update(_END)
        tokens += length
        found.append(Prefix(chain.copy().digest(), tokens, block.level, block.lifetime))
    return tuple(found)


_END = b"\xff" * 8  # no text is so long


def _add(chain: "hashlib.blake2b", text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    chain.update(len(data).to_bytes(8))
    chain.update(data)
