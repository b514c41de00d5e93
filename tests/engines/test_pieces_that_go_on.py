"""Weights whose tokenizer begins every text with a space, as those of Llama 2 and Mistral: a prompt that is cut where
blocks end has the tokens of the whole one. The weights are tiny and know nothing; the tokenizer is llama.cpp's."""

import asyncio
import math
import random
import struct
from pathlib import Path

from sestet.engines.llamacpp.engine import LlamaCppEngine
from sestet.engines.llamacpp.process import LlamaCppSettings
from tests.unit.engines.gguf_file import ARRAY, F32, I32, STRING, U32, Value, string, value

SIZE, HEADS, LAYERS, WINDOW = 32, 2, 1, 128
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
WORDS = ("\u2581", "a", "b", "c", "ab", "\u2581a", "\u2581ab", "\u2581b")
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
KINDS = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(WORDS)]
SCORES = [0.0] * (3 + 256) + [float(-at) for at in range(len(WORDS), 0, -1)]


def tiny_weights() -> bytes:
    """A whole GGUF file: the smallest Llama there can be."""
    entries: dict[str, Value] = {
        "general.architecture": (STRING, "llama"),
        "llama.context_length": (U32, WINDOW),
        "llama.block_count": (U32, LAYERS),
        "llama.embedding_length": (U32, SIZE),
        "llama.feed_forward_length": (U32, SIZE),
        "llama.attention.head_count": (U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "tokenizer.chat_template": (STRING, "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"),
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS)),
        "tokenizer.ggml.scores": (ARRAY, (F32, SCORES)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, KINDS)),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "tokenizer.ggml.unknown_token_id": (U32, 0),
    }
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = {
        "token_embd.weight": (SIZE, len(TOKENS)),
        "output_norm.weight": (SIZE,),
        "output.weight": (SIZE, len(TOKENS)),
    }
    for layer in range(LAYERS):
        tensors |= {f"blk.{layer}.{name}.weight": (SIZE,) for name in ("attn_norm", "ffn_norm")}
        tensors |= {f"blk.{layer}.{name}.weight": (SIZE, SIZE) for name in square}
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    for key, (kind, payload) in entries.items():
        header += string(key) + struct.pack("<I", kind) + value(kind, payload)
    data = b""
    for name, shape in tensors.items():
        header += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        numbers = random.Random(name).choices((-0.1, 0.1), k=math.prod(shape))
        data += struct.pack(f"<{len(numbers)}f", *numbers)
    return header + bytes(-len(header) % 32) + data


def test_a_prompt_that_is_cut_has_the_tokens_of_the_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_weights())

    async def encode() -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[tuple[int, ...]]]:
        engine = LlamaCppEngine(LlamaCppSettings(path, threads=1, slots=1), lambda _event, _facts: None)
        await engine.start()
        try:
            return (
                await engine.encode(["ab c\n\nab </s>b"]),
                await engine.encode(["ab c", "\n\nab ", "</s>b"]),
                await engine.encode(["b", " b"], begins=False),
            )
        finally:
            await engine.stop()

    whole, cut, continued = asyncio.run(encode())

    assert whole == [tuple(token for piece in cut for token in piece)]
    assert [(TOKENS.index("b"),), (TOKENS.index("\u2581b"),)] == continued
