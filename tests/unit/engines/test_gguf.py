"""The reader of GGUF headers: true facts from an honest file, `GgufError` from every other (threat T43)."""

import struct
from pathlib import Path

import pytest

from sestet.engines.llamacpp.gguf import GgufError, GgufFacts, read_facts
from tests.unit.engines.gguf_file import (
    ARRAY,
    BOOL,
    F32,
    I32,
    SMALL,
    STRING,
    TEMPLATE,
    U32,
    U64,
    Value,
    gguf,
    string,
    with_entry,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def facts(file: Path, content: bytes) -> GgufFacts:
    file.write_bytes(content)
    return read_facts(file)


def test_an_honest_header_is_read(file: Path) -> None:
    assert GgufFacts(
        name="Tiny",
        architecture="llama",
        train_window=2048,
        kv_bytes_per_token=2 * 3 * 2 * (8 + 8),
        chat_template=TEMPLATE,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        special_tokens=("<|im_start|>", "<|im_end|>", "<think>"),
        token_characters_max=12,
        adds_space=False,
    ) == facts(file, gguf(SMALL))


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_in_use_are_read(file: Path, version: int) -> None:
    assert "Tiny" == facts(file, gguf(SMALL, version=version)).name


def test_values_of_every_type_are_passed_over(file: Path) -> None:
    more: dict[str, Value] = {f"x.{kind}": (kind, 1) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)}
    more |= {f"x.array.{kind}": (ARRAY, (kind, [1, 0, 1])) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)}
    more["x.nested"] = (ARRAY, (ARRAY, [(STRING, ["a"]), (I32, [1, 2]), (ARRAY, [(U32, [])])]))

    assert facts(file, gguf(SMALL)) == facts(file, gguf({**more, **SMALL}))


def test_sizes_given_for_each_layer_count_as_the_largest(file: Path) -> None:
    entry = (ARRAY, (I32, [1, 4, 2]))

    assert 2 * 3 * 4 * 16 == facts(file, gguf(with_entry("llama.attention.head_count_kv", entry))).kv_bytes_per_token


def test_sizes_of_keys_and_values_are_honoured(file: Path) -> None:
    entries = {**SMALL, "llama.attention.key_length": (U32, 32), "llama.attention.value_length": (U32, 16)}

    assert 2 * 3 * 2 * 48 == facts(file, gguf(entries)).kv_bytes_per_token


@pytest.mark.parametrize("index", [7, 2**32 - 1])
def test_a_token_id_outside_of_the_vocabulary_is_no_token(file: Path, index: int) -> None:
    assert "" == facts(file, gguf(with_entry("tokenizer.ggml.bos_token_id", (U32, index)))).bos_token


def test_text_that_is_not_utf_8_is_read_with_marks(file: Path) -> None:
    assert "Ti\ufffdny" == facts(file, gguf(with_entry("general.name", (STRING, b"Ti\xffny")))).name


def test_a_header_cut_anywhere_is_refused(file: Path) -> None:
    content = gguf(SMALL)
    for length in range(len(content)):
        file.write_bytes(content[:length])

        with pytest.raises(GgufError):
            read_facts(file)


def test_what_follows_the_header_is_not_looked_at(file: Path) -> None:
    assert facts(file, gguf(SMALL)) == facts(file, gguf(SMALL) + b"\xff" * 1000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"\0" * 100,
        b"GGML" + gguf(SMALL)[4:],
        gguf(SMALL, magic=b"ggjt"),
        gguf(SMALL, version=0),
        gguf(SMALL, version=1),
        gguf(SMALL, version=4),
        gguf(SMALL, version=2**31),
        gguf({}),
        gguf(SMALL, count=len(SMALL) + 1),
        gguf(SMALL, count=2**63),
        gguf(SMALL, count=2**64 - 1),
        b"PK\x03\x04" + b"x" * 100,
    ],
)
def test_what_is_no_gguf_is_refused(file: Path, content: bytes) -> None:
    with pytest.raises(GgufError):
        facts(file, content)


@pytest.mark.parametrize("length", [2**10, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("place", ["key", "string", "strings", "numbers", "nested"])
def test_a_length_that_lies_is_refused_before_it_is_used(file: Path, place: str, length: int) -> None:
    lie = struct.pack("<Q", length)
    entry = {
        "key": lie,
        "string": string("k") + struct.pack("<I", STRING) + lie,
        "strings": string("k") + struct.pack("<II", ARRAY, STRING) + lie,
        "numbers": string("k") + struct.pack("<II", ARRAY, U64) + lie,
        "nested": string("k") + struct.pack("<II", ARRAY, ARRAY) + lie,
    }[place]

    with pytest.raises(GgufError):
        facts(file, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry + b"\0" * 64)


@pytest.mark.parametrize("kind", [13, 14, 255, 2**31, 2**32 - 1])
@pytest.mark.parametrize("inside", [False, True])
def test_an_unknown_type_is_refused(file: Path, kind: int, inside: bool) -> None:
    declared = struct.pack("<IIQ", ARRAY, kind, 1) if inside else struct.pack("<I", kind)

    with pytest.raises(GgufError):
        facts(file, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + declared + b"\0" * 64)


def test_arrays_nested_without_end_are_refused(file: Path) -> None:
    nested = struct.pack("<IQ", ARRAY, 1) * 10_000

    with pytest.raises(GgufError):
        facts(
            file, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", ARRAY) + nested + b"\0" * 64
        )


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "llama.context_length",
        "tokenizer.ggml.tokens",
    ],
)
def test_a_header_without_what_every_model_has_is_refused(file: Path, key: str) -> None:
    with pytest.raises(GgufError):
        facts(file, gguf({name: entry for name, entry in SMALL.items() if name != key}))


ODD: dict[str, Value] = {
    "text": (STRING, "text"),
    "no text": (STRING, ""),
    "a fraction": (F32, 0.5),
    "not a number": (F32, float("nan")),
    "a negative number": (I32, -1),
    "a truth": (BOOL, True),
    "an untruth": (BOOL, False),
    "zero": (U32, 0),
    "the largest number": (U64, 2**64 - 1),
    "no list": (ARRAY, (U32, [])),
    "texts": (ARRAY, (STRING, ["a", "b"])),
    "numbers": (ARRAY, (I32, [3, 4, 5])),
    "fractions": (ARRAY, (F32, [3.0, float("nan")])),
    "lists": (ARRAY, (ARRAY, [(U32, [1]), (STRING, ["a"])])),
}


@pytest.mark.parametrize("key", SMALL)
@pytest.mark.parametrize("entry", ODD.values(), ids=ODD)
def test_a_value_of_another_type_is_refused_or_does_no_harm(file: Path, key: str, entry: Value) -> None:
    try:
        read = facts(file, gguf(with_entry(key, entry)))
    except GgufError as error:
        assert str(error)  # noqa: PT017 - either outcome is right, any other exception is not
        return

    assert {str} == {type(text) for text in (read.name, read.chat_template, read.bos_token, *read.special_tokens)}
    assert isinstance(read.kv_bytes_per_token, int)
    assert read.train_window > 0


def test_a_file_that_is_not_there_is_the_callers_problem(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_facts(tmp_path / "missing.gguf")


def test_tokens_of_a_tokenizer_that_folds_white_space_may_stand_for_any_length(file: Path) -> None:
    folds: dict[str, Value] = {**SMALL, "tokenizer.ggml.model": (STRING, "t5")}

    assert 0 == facts(file, gguf(folds)).token_characters_max


@pytest.mark.parametrize(
    ("entries", "adds_space"),
    [
        ({"tokenizer.ggml.model": (STRING, "llama")}, True),
        ({"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.add_space_prefix": (BOOL, True)}, True),
        ({"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.add_space_prefix": (BOOL, False)}, False),
        ({"tokenizer.ggml.model": (STRING, "gpt2")}, False),
    ],
)
def test_whether_every_text_begins_with_a_space_is_known(
    file: Path, entries: dict[str, Value], adds_space: bool
) -> None:
    assert adds_space == facts(file, gguf({**SMALL, **entries})).adds_space


def test_a_line_end_that_is_part_of_other_tokens_separates_nothing(file: Path) -> None:
    tokens: Value = (ARRAY, (STRING, ["a", "\n\n"]))
    entries: dict[str, Value] = {"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.tokens": tokens}

    assert not facts(file, gguf({**SMALL, **entries})).adds_space
