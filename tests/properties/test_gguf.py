"""Headers that lie in every way: the reader tells facts or says `GgufError`, and nothing else ever happens (T43)."""

import struct
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sestet.engines.llamacpp.gguf import GgufError, read_facts
from tests.lengths import length
from tests.unit.engines.gguf_file import ARRAY, I32, SMALL, STRING, U32, Value, gguf, with_entry

HONEST = gguf(SMALL)

# The file of one test is written again for each example.
in_one_folder = settings(
    max_examples=length(150, 1000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NUMBERS = st.sampled_from([0, 1, 2, 3, 8, 9, 12, 13, 255, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1]).map(
    lambda number: struct.pack("<Q", number)
)
SCALARS: st.SearchStrategy[Value] = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: (U32, number)),
    st.integers(-(2**31), 2**31 - 1).map(lambda number: (I32, number)),
    st.floats(width=32).map(lambda number: (6, number)),
    st.booleans().map(lambda truth: (7, truth)),
    st.binary(max_size=20).map(lambda text: (STRING, text)),
)
ARRAYS: st.SearchStrategy[Value] = st.one_of(
    st.lists(st.integers(-5, 5), max_size=8).map(lambda items: (ARRAY, (I32, items))),
    st.lists(st.binary(max_size=5), max_size=8).map(lambda items: (ARRAY, (STRING, items))),
    st.lists(st.floats(width=32), max_size=4).map(lambda items: (ARRAY, (6, items))),
    st.lists(st.lists(st.integers(0, 9), max_size=2).map(lambda items: (U32, items)), max_size=3).map(
        lambda items: (ARRAY, (ARRAY, items))
    ),
)


def check(folder: Path, content: bytes) -> None:
    """Facts, or a refusal with a text."""
    file = folder / "model.gguf"
    file.write_bytes(content)
    try:
        facts = read_facts(file)
    except GgufError as error:
        assert str(error)  # noqa: PT017 - either outcome is right, any other exception is not
        return

    assert facts.train_window > 0
    assert [str] * (2 + len(facts.special_tokens)) == [
        type(text) for text in (facts.bos_token, facts.eos_token, *facts.special_tokens)
    ]


@in_one_folder
@given(patches=st.lists(st.tuples(st.integers(0, len(HONEST)), st.one_of(st.binary(max_size=8), NUMBERS)), max_size=4))
def test_a_header_with_bytes_overwritten(tmp_path: Path, patches: list[tuple[int, bytes]]) -> None:
    content = bytearray(HONEST)
    for place, patch in patches:
        content[place : place + len(patch)] = patch

    check(tmp_path, bytes(content))


@in_one_folder
@given(key=st.sampled_from(sorted(SMALL)), entry=st.one_of(SCALARS, ARRAYS))
@example(key="tokenizer.ggml.tokens", entry=(U32, 1))
@example(key="tokenizer.ggml.token_type", entry=(U32, 1))
def test_a_header_with_a_value_of_another_type(tmp_path: Path, key: str, entry: Value) -> None:
    check(tmp_path, gguf(with_entry(key, entry)))


@in_one_folder
@given(content=st.binary(max_size=200), known=st.booleans())
def test_any_bytes(tmp_path: Path, content: bytes, known: bool) -> None:
    check(tmp_path, (b"GGUF\x03\0\0\0" if known else b"") + content)
