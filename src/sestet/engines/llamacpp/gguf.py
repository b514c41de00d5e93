"""The few facts we need of a GGUF file: from its header template, special tokens, sizes; and which file it is.

Files come from strangers and their headers lie (RELIABILITY.md T43): every length is checked against the file
before it is used, and this runs in the engine's process, never in the API's. The reader of the `gguf` package
takes two seconds and four dependencies for the same facts (docs/decisions/0004).
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SCALARS: Final[Mapping[int, str]] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING: Final = 8
_ARRAY: Final = 9

# Token types of llama.cpp that stand for control, not text.
_CONTROL: Final = 3
_USER_DEFINED: Final = 4

# Tokenizers that keep every character of a text; others fold white space, so their tokens may stand for any length.
_LOSSLESS: Final = ("gpt2", "llama")

_DIGESTED_BYTES: Final = 4 * 2**20


class GgufError(ValueError):
    """The file is not a GGUF file this reader understands; the text says where it stops making sense."""


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """`kv_bytes_per_token` is the key and value cache of one token at 16 bits an element. `adds_space` is whether the
    tokenizer begins every text with a space, also one that goes on where another ended, and keeps line ends apart."""

    name: str
    architecture: str
    train_window: int
    kv_bytes_per_token: int
    chat_template: str
    bos_token: str
    eos_token: str
    special_tokens: tuple[str, ...]
    token_characters_max: int
    adds_space: bool


def read_facts(path: Path) -> GgufFacts:
    """The header's facts. `GgufError` for what is no GGUF, `OSError` for what cannot be read."""
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise GgufError("the file is too short to be GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _facts(_Header(data).read())


def digest(path: Path) -> str:
    """Tells files of weights apart by their size, beginning and end: whole ones would take minutes to read."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        found = hashlib.sha256(size.to_bytes(8) + file.read(_DIGESTED_BYTES))
        file.seek(max(0, size - _DIGESTED_BYTES))
        found.update(file.read(_DIGESTED_BYTES))
    return found.hexdigest()


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def read(self) -> dict[str, Any]:
        if self._data[:4] != b"GGUF":
            raise GgufError("the file does not begin with GGUF")
        self._at = 4
        version = self._scalar("<I")
        if version not in (2, 3):
            raise GgufError(f"GGUF version {version} is not known here")
        self._scalar("<Q")  # the number of tensors
        return {self._string(): self._value(self._scalar("<I")) for _ in range(self._count(12))}

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY and depth < 4:
            item = self._scalar("<I")
            if item in _SCALARS:
                return self._scalars(_SCALARS[item])
            read: Callable[[], Any] = self._string if item == _STRING else lambda: self._value(item, depth + 1)
            return [read() for _ in range(self._count(8))]
        raise GgufError(f"unknown value type {kind} at byte {self._at}")

    def _scalar(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _scalars(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        count = self._count(size)
        return struct.unpack(f"<{count}{form[1:]}", self._take(count * size))

    def _string(self) -> str:
        return self._take(self._count(1)).decode("utf-8", "replace")

    def _count(self, least_size: int) -> int:
        """A length that the rest of the file can hold, each item taking at least this many bytes."""
        count = int(self._scalar("<Q"))
        if count * least_size > len(self._data) - self._at:
            raise GgufError(f"a length of {count} at byte {self._at - 8} is larger than the file")
        return count

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise GgufError(f"the file ends inside its header, at byte {len(self._data)}")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]


def _facts(header: Mapping[str, Any]) -> GgufFacts:
    architecture = str(header.get("general.architecture", ""))

    def number(name: str, default: int = 0) -> int:
        value = header.get(f"{architecture}.{name}", default)
        # Some architectures give one value a layer.
        values = value if isinstance(value, tuple | list) else (value,)
        if not all(isinstance(one, int) and one >= 0 for one in values):
            raise GgufError(f"{architecture}.{name} is not a number")
        return max(values, default=default)

    train_window = number("context_length")
    tokens = header.get("tokenizer.ggml.tokens", [])
    if not isinstance(tokens, list) or not all(isinstance(one, str) for one in tokens):
        raise GgufError("tokenizer.ggml.tokens is not a list of texts")
    types = header.get("tokenizer.ggml.token_type", ())
    if not isinstance(types, tuple | list):
        raise GgufError("tokenizer.ggml.token_type is not a list")
    if not architecture or not train_window or not tokens:
        raise GgufError("the header names no architecture, context length or vocabulary")
    template = str(header.get("tokenizer.chat_template", ""))

    def token(name: str) -> str:
        index = header.get(f"tokenizer.ggml.{name}_token_id", -1)
        return str(tokens[index]) if isinstance(index, int) and 0 <= index < len(tokens) else ""

    heads = max(1, number("attention.head_count", 1))
    head_size = number("embedding_length") // heads
    key_size = number("attention.key_length", head_size) or head_size
    value_size = number("attention.value_length", head_size) or head_size
    kv_heads = number("attention.head_count_kv", heads) or heads
    return GgufFacts(
        name=str(header.get("general.name", "")),
        architecture=architecture,
        train_window=train_window,
        kv_bytes_per_token=2 * number("block_count") * kv_heads * (key_size + value_size),
        chat_template=template,
        bos_token=token("bos"),
        eos_token=token("eos"),
        special_tokens=tuple(
            text
            for text, kind in zip(tokens, types, strict=False)
            if kind == _CONTROL or (kind == _USER_DEFINED and len(text.strip()) > 1 and text in template)
        ),
        token_characters_max=max(map(len, tokens)) if header.get("tokenizer.ggml.model") in _LOSSLESS else 0,
        adds_space=header.get("tokenizer.ggml.model") == "llama"
        and header.get("tokenizer.ggml.add_space_prefix") is not False
        and not any("\n" in text for text in tokens if text != "\n"),
    )
