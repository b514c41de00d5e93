"""Seals: ten thousand forgeries of every kind, and not one that is taken for a thought of ours."""

import base64
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Final

import pytest

from sestet.turn.seals import Opened, Owner, Seals, Verdict

KEY: Final = b"the first secret of this house .."
OLD_KEY: Final = b"a secret that was retired long ago"
OTHER_KEY: Final = b"the secret of quite another house"
OWNER: Final = Owner("card-20260101", "default")
MESSAGE: Final = "msg_01abc"
TEXT: Final = "First I add 2 and 2, é, \U0001f389.\nThen I am done."
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

HOUSE = Seals([KEY])
SIGNED = HOUSE.sign(OWNER, MESSAGE, 0, TEXT)
ENCLOSED = HOUSE.enclose(OWNER, MESSAGE, 0, TEXT)

# A forgery: the owner it is presented for, the seal, and the text shown with it (none for a redacted thought).
Forgery = tuple[Owner, str, str | None]


def raw(seal: str) -> bytes:
    return base64.b64decode(seal, validate=True)


def spelled(data: bytes) -> str:
    return base64.b64encode(data).decode()


def with_every_character_changed(seal: str) -> Iterator[str]:
    """Every position of the text, with every other character of base64, its padding, and some that are none."""
    for position, character in product(range(len(seal)), f"{ALPHABET}=-_ \n\0é"):
        if seal[position] != character:
            yield seal[:position] + character + seal[position + 1 :]


def with_every_bit_changed(seal: str) -> Iterator[str]:
    data = raw(seal)
    for position, bit in product(range(len(data)), range(8)):
        yield spelled(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])


def with_every_length(seal: str) -> Iterator[str]:
    """Characters and bytes missing at either end, doubled, and added."""
    data = raw(seal)
    yield from (seal[:size] for size in range(len(seal)))
    yield from (seal[size:] for size in range(1, len(seal) + 1))
    yield from (spelled(data[:size]) for size in range(len(data)))
    yield from (spelled(data[size:]) for size in range(1, len(data)))
    yield from (spelled(data + bytes(size)) for size in range(1, 65))
    yield from (spelled(data[:position] + data[position + 1 :]) for position in range(len(data)))
    yield from (spelled(data[:position] + b"\0" + data[position:]) for position in range(len(data) + 1))
    yield from (seal * 2, seal * 1_000, seal + seal[:4])


def with_another_spelling(seal: str) -> Iterator[str]:
    """Other characters that stand for the same bytes, to a reader who is not strict."""
    last = seal.rstrip("=")[-1]
    yield seal.rstrip("=")
    yield seal.rstrip("=") + "==="
    yield from (seal + padding for padding in ("=", "==", "====", "\n", " ", "\r\n", "\0", "AAAA"))
    yield from (padding + seal for padding in ("=", "\n", " ", "\ufeff", "\0"))
    yield from (seal[:position] + "\n" + seal[position:] for position in range(len(seal) + 1))
    yield seal.replace("+", "-").replace("/", "_") + "\t"
    yield from (seal.rstrip("=")[:-1] + other + "=" * seal.count("=") for other in ALPHABET if other != last)
    yield from (seal.swapcase(), seal.lower(), seal.upper(), seal[::-1])
    yield "".join(chr(ord(letter) + 0xFEE0) for letter in seal)  # full-width letters


def with_another_kind(seal: str) -> Iterator[str]:
    """The byte that names the kind, with every value."""
    data = raw(seal)
    yield from (spelled(data[:4] + bytes([kind]) + data[5:]) for kind in range(256) if kind != data[4])


def with_another_text(text: str) -> Iterator[str]:
    for position in range(len(text)):
        yield text[:position] + text[position + 1 :]
        yield (
            text[:position] + text[position:].swapcase() if text[position:].swapcase() != text[position:] else text * 2
        )
        yield from (text[:position] + letter + text[position:] for letter in ("x", " ", "\0", "\u200b", "e\u0301"))
    yield from (text + " ", " " + text, text + "\n", text.replace("\n", "\r\n"), text.replace("é", "e\u0301"), "")
    yield from (text.encode().decode("latin-1"), text * 2, text.strip(".") + "\u3002")


def with_parts_of_another(seal: str, other: str) -> Iterator[str]:
    """Head of one and tail of the other, cut anywhere; what both have in common is no forgery."""
    first, second = raw(seal), raw(other)
    for place in range(1, min(len(first), len(second))):
        for mixed in (first[:place] + second[place:], second[:place] + first[place:]):
            if mixed not in (first, second):
                yield spelled(mixed)


def forgeries() -> Iterator[Forgery]:
    for seal, shown in ((SIGNED, TEXT), (ENCLOSED, None), (ENCLOSED, "")):
        for change in (with_every_character_changed, with_every_bit_changed, with_every_length, with_another_kind):
            yield from ((OWNER, forged, shown) for forged in change(seal))
        yield from ((OWNER, forged, shown) for forged in with_another_spelling(seal))
    yield from ((OWNER, SIGNED, text) for text in with_another_text(TEXT))
    # One kind for the other: a signature is no redacted thought, and proves no text that was not shown.
    yield from ((OWNER, SIGNED, shown) for shown in (None, ""))
    for place in range(39, 72):
        yield OWNER, spelled(raw(SIGNED)[:39] + raw(ENCLOSED)[place:]), TEXT
        yield OWNER, spelled(raw(ENCLOSED)[:39] + raw(SIGNED)[place:]), None
    # Blocks of one reply, of two replies, of two owners and of two houses, swapped whole and in parts.
    others = [
        HOUSE.sign(OWNER, MESSAGE, 0, "Another thought."),
        HOUSE.sign(OWNER, MESSAGE, 1, "Another thought."),
        HOUSE.sign(OWNER, "msg_02abc", 0, "Another thought."),
        HOUSE.sign(Owner("card-20250101", "default"), MESSAGE, 0, "Another thought."),
        HOUSE.sign(Owner("card-20260101", "other"), MESSAGE, 0, "Another thought."),
        Seals([OTHER_KEY]).sign(OWNER, MESSAGE, 0, TEXT),
    ]
    for other in others:
        yield OWNER, other, TEXT
        yield from ((OWNER, forged, TEXT) for forged in with_parts_of_another(SIGNED, other))
    for number in range(500):
        owner = Owner(OWNER.card + "x" * (number % 2), OWNER.scope + str(number))
        yield owner, SIGNED, TEXT
        yield owner, ENCLOSED, None
        stranger = Seals([f"the secret of house number {number:06}".encode()])
        yield OWNER, stranger.sign(OWNER, MESSAGE, 0, TEXT), TEXT
        yield OWNER, stranger.enclose(OWNER, MESSAGE, 0, TEXT), None
    random = Random(11)
    for _ in range(500):
        yield OWNER, spelled(random.randbytes(random.choice((71, 39, 100, 3)))), TEXT
        yield OWNER, spelled(raw(SIGNED)[: random.choice((4, 5, 13, 39))] + random.randbytes(32)), TEXT
    yield from ((OWNER, garbage, TEXT) for garbage in ("", "=", "====", "U3N0M", "U3N0MQ==", "U3N0MXM=", "😀", "\0"))


def test_ten_thousand_forgeries_are_not_genuine() -> None:
    verdicts = [(forgery, HOUSE.open(forgery[0], forgery[1], forgery[2])) for forgery in forgeries()]

    assert len(verdicts) >= 10_000
    assert [] == [forgery for forgery, opened in verdicts if opened.verdict is Verdict.GENUINE]
    assert {("", b"", 0)} == {(opened.text, opened.reply, opened.index) for _, opened in verdicts}


def test_a_thousand_genuine_ones_are_genuine() -> None:
    """The control: the same door lets in all that is ours, sealed with the newest key or an older one."""
    rotated = Seals([KEY, OLD_KEY])
    random = Random(12)
    refused = []
    for number in range(1_000):
        owner = Owner(f"card-{number % 7}", f"scope-{number % 5}")
        text = "".join(random.choices("abc é\U0001f389\n\0", k=random.randint(1, 60)))
        house = (rotated, Seals([KEY]), Seals([OLD_KEY]))[number % 3]
        index, reply = number % 65_536, f"msg_{number}"
        told = [
            rotated.open(owner, house.sign(owner, reply, index, text), text),
            rotated.open(owner, house.enclose(owner, reply, index, text), None),
            # An omitted thought: what the client puts in its place is not looked at.
            rotated.open(owner, house.enclose(owner, reply, index, text), "anything"),
        ]
        if [(Verdict.GENUINE, text, index)] * 3 != [(one.verdict, one.text, one.index) for one in told]:
            refused.append(number)

    assert [] == refused


@pytest.mark.parametrize(
    ("opened", "verdict"),
    [
        (HOUSE.open(OWNER, SIGNED, TEXT), Verdict.GENUINE),
        (HOUSE.open(OWNER, SIGNED, TEXT + "!"), Verdict.CHANGED),
        (HOUSE.open(OWNER, SIGNED[:-4], TEXT), Verdict.CHANGED),
        (HOUSE.open(OWNER, SIGNED + "\n", TEXT), Verdict.CHANGED),
        (HOUSE.open(OWNER, SIGNED[:8], TEXT), Verdict.CHANGED),
        (HOUSE.open(OWNER, SIGNED, None), Verdict.CHANGED),
        (HOUSE.open(OWNER, ENCLOSED[:40] + "AAAA" + ENCLOSED[44:], None), Verdict.CHANGED),
        (HOUSE.open(Owner("card-2", "default"), SIGNED, TEXT), Verdict.FOREIGN),
        (HOUSE.open(Owner(OWNER.card, "other"), ENCLOSED, None), Verdict.FOREIGN),
        # Changed as well as foreign is changed: somebody altered what was ours.
        (HOUSE.open(Owner(OWNER.card, "other"), SIGNED, TEXT + "!"), Verdict.CHANGED),
        (Seals([OTHER_KEY]).open(OWNER, SIGNED, TEXT), Verdict.FOREIGN),
        (HOUSE.open(OWNER, "", TEXT), Verdict.FOREIGN),
        (HOUSE.open(OWNER, "ErUBCkYIBBgCIkA" + "x" * 100, TEXT), Verdict.FOREIGN),
        (HOUSE.open(OWNER, "reasoning", "x"), Verdict.FOREIGN),
    ],
)
def test_what_is_ours_and_altered_is_told_from_what_was_made_elsewhere(opened: Opened, verdict: Verdict) -> None:
    assert verdict is opened.verdict


def test_old_keys_verify_and_the_newest_seals() -> None:
    before, after, later = Seals([OLD_KEY]), Seals([KEY, OLD_KEY]), Seals([KEY])
    seal = after.sign(OWNER, MESSAGE, 0, TEXT)

    assert Verdict.GENUINE is after.open(OWNER, before.sign(OWNER, MESSAGE, 0, TEXT), TEXT).verdict
    assert Verdict.GENUINE is later.open(OWNER, seal, TEXT).verdict
    assert Verdict.FOREIGN is before.open(OWNER, seal, TEXT).verdict
    assert Verdict.FOREIGN is later.open(OWNER, before.enclose(OWNER, MESSAGE, 0, TEXT), None).verdict


def test_a_seal_is_the_same_every_time_and_another_for_every_reply_and_place() -> None:
    seals = [HOUSE.sign(OWNER, message, index, TEXT) for message in ("msg_1", "msg_2") for index in (0, 1, 2)]

    assert HOUSE.sign(OWNER, MESSAGE, 0, TEXT) == SIGNED
    assert len(seals) == len(set(seals))


def test_what_encloses_a_thought_shows_nothing_of_it() -> None:
    texts = [TEXT, TEXT[:-1] + "!", "x" + TEXT, TEXT * 2, "a", "b" * 10_000]
    seals = [HOUSE.enclose(OWNER, message, 0, text) for text in texts for message in ("msg_1", "msg_2")]
    windows = {raw(seal)[start : start + 4] for seal in seals for start in range(39, len(raw(seal)) - 3)}

    assert len(seals) == len(set(seals))
    assert [] == [text for text in texts for start in range(len(text) - 3) if text[start:][:4].encode()[:4] in windows]
    assert [] == [seal for seal in (*seals, SIGNED) if b"default" in raw(seal) or b"card" in raw(seal)]
    # Not even two thoughts that begin alike begin alike.
    assert raw(seals[0])[39:55] != raw(seals[2])[39:55]


def test_the_thoughts_of_one_reply_can_be_told_apart_by_their_place() -> None:
    opened = [HOUSE.open(OWNER, HOUSE.sign(OWNER, MESSAGE, index, TEXT), TEXT) for index in (0, 2, 65_535)]
    other = HOUSE.open(OWNER, HOUSE.sign(OWNER, "msg_other", 0, TEXT), TEXT)

    assert [0, 2, 65_535] == [one.index for one in opened]
    assert 1 == len({one.reply for one in opened})
    assert other.reply != opened[0].reply


@pytest.mark.parametrize("secrets", [[], [b"short"], [KEY, b""]])
def test_a_house_without_a_proper_secret_is_a_mistake_of_ours(secrets: list[bytes]) -> None:
    with pytest.raises(AssertionError):
        Seals(secrets)
