"""Tiny GGUF headers, written by hand."""

import struct
from collections.abc import Mapping

_FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10

# A value is (type, payload); the payload of an array is (type of its items, items).
Value = tuple[int, object]

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|><think>{% endfor %}"

SMALL: Mapping[str, Value] = {
    "general.architecture": (STRING, "llama"),
    "general.name": (STRING, "Tiny"),
    "llama.context_length": (U32, 2048),
    "llama.block_count": (U32, 3),
    "llama.embedding_length": (U32, 64),
    "llama.attention.head_count": (U32, 8),
    "llama.attention.head_count_kv": (U32, 2),
    "tokenizer.chat_template": (STRING, TEMPLATE),
    "tokenizer.ggml.model": (STRING, "gpt2"),
    "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "<|im_start|>", "<|im_end|>", "<think>", "<unused>", " ", "b"])),
    "tokenizer.ggml.token_type": (ARRAY, (I32, [1, 3, 3, 4, 4, 4, 1])),
    "tokenizer.ggml.bos_token_id": (U32, 1),
    "tokenizer.ggml.eos_token_id": (U32, 2),
}


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, payload: object) -> bytes:
    """The bytes of a value without its type."""
    if kind == STRING:
        assert isinstance(payload, str | bytes)
        return string(payload)
    if kind == ARRAY:
        assert isinstance(payload, tuple)
        item, items = payload
        return struct.pack("<IQ", item, len(items)) + b"".join(value(item, one) for one in items)
    return struct.pack(_FORMS[kind], payload)


def gguf(entries: Mapping[str, Value], *, version: int = 3, magic: bytes = b"GGUF", count: int | None = None) -> bytes:
    """A header with these entries; `count` lies about how many there are."""
    head = magic + struct.pack("<IQQ", version, 0, len(entries) if count is None else count)
    return head + b"".join(
        string(key) + struct.pack("<I", kind) + value(kind, payload) for key, (kind, payload) in entries.items()
    )


def with_entry(key: str, entry: Value) -> dict[str, Value]:
    return {**SMALL, key: entry}
