"""Two prefixes have the same key if and only if everything before their end is the same."""

import pytest

from sestet.cache.prefixes import Prefix, prefixes
from sestet.turn.render import Block, Rendered

SALT = b"salt"


def keys(*segments: tuple[str, ...], levels: str = "tsm", settings: str = "", salt: bytes = SALT) -> list[bytes]:
    names = {"t": "tools", "s": "system", "m": "messages"}
    blocks = tuple(Block(names[level], None) for level in levels)  # type: ignore[arg-type]
    rendered = Rendered((*segments, ("rest",)), blocks)
    return [one.key for one in prefixes(rendered, [1] * len(rendered.segments), settings, salt)]


BASE = keys(("a",), ("b",), ("c",))


def test_the_same_prompt_has_the_same_keys() -> None:
    assert BASE == keys(("a",), ("b",), ("c",))
    assert 3 == len(set(BASE))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (keys(("x",), ("b",), ("c",)), 0),
        (keys(("a",), ("x",), ("c",)), 1),
        (keys(("a",), ("b",), ("x",)), 2),
        (keys(("a",), ("b",), ("c",), settings="other"), 2),  # tools and system stay, messages do not
        (keys(("a",), ("b",), ("c",), salt=b"other"), 0),
        (keys(("a", ""), ("b",), ("c",)), 0),
        (keys(("ab",), ("",), ("c",)), 0),
        (keys(("a",), ("b", "c"), ("",)), 1),
        (keys(("a",), ("bc",), ("",)), 1),
    ],
)
def test_keys_are_the_same_up_to_the_first_difference(other: list[bytes], same: int) -> None:
    assert [True] * same + [False] * (3 - same) == [one == two for one, two in zip(BASE, other, strict=True)]


def test_a_prefix_ends_with_its_block() -> None:
    rendered = Rendered((("ab",), ("c", "d"), ("e",)), (Block("system", "1h"), Block("messages", None)))
    found = prefixes(rendered, [2, 3, 4], "", SALT)

    assert [(2, "system", "1h"), (5, "messages", None)] == [(one.tokens, one.level, one.lifetime) for one in found]
    assert all(isinstance(one, Prefix) and len(one.key) == 32 for one in found)
