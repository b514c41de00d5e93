"""GGUF files that are none, lie or end early: one clear line and status 2, and never a crash of ours (T43)."""

import asyncio
import ctypes
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sestet.engines.llamacpp.gguf import GgufError, GgufFacts, digest, read_facts
from sestet.engines.llamacpp.process import EngineLoadError, EngineProcess, LlamaCppSettings
from tests.engines.subjects import embedded_path
from tests.running import free_port

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
MUTANTS = 2_000
LOADED_MUTANTS = 12


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def strings(*texts: str) -> bytes:
    return struct.pack("<IQ", 8, len(texts)) + b"".join(map(string, texts))


def tiny_gguf() -> bytes:
    """A header with everything that is read from one, and no tensors."""
    pairs = [
        ("general.architecture", 8, string("llama")),
        ("general.name", 8, string("tiny")),
        ("llama.context_length", 4, struct.pack("<I", 128)),
        ("llama.embedding_length", 4, struct.pack("<I", 64)),
        ("llama.block_count", 4, struct.pack("<I", 2)),
        ("llama.attention.head_count", 4, struct.pack("<I", 4)),
        ("llama.attention.head_count_kv", 4, struct.pack("<I", 2)),
        ("tokenizer.chat_template", 8, string("{{ messages[0].content }}")),
        ("tokenizer.ggml.tokens", 9, strings("<s>", "</s>", "a")),
        ("tokenizer.ggml.token_type", 9, struct.pack("<IQ3i", 5, 3, 3, 3, 1)),
        ("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 0)),
        ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 1)),
    ]
    body = b"".join(string(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body


def mutant(seed: int) -> bytes:
    """The tiny file with up to four changes: bytes, lengths, cuts and repetitions."""
    source = random.Random(seed)
    data = bytearray(tiny_gguf())
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        match source.randrange(5):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                data[at : at + 8] = struct.pack("<Q", source.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
            case 2:
                data[at : at + 4] = struct.pack("<I", source.choice([0, 8, 9, 12, 13, 2**31 - 1, 2**32 - 1]))
            case 3:
                del data[at + 24 :]
            case _:
                data[at:at] = data[at : at + 64]
    return bytes(data)


def test_the_tiny_header_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf())

    assert GgufFacts(
        name="tiny",
        architecture="llama",
        train_window=128,
        kv_bytes_per_token=2 * 2 * 2 * (16 + 16),
        chat_template="{{ messages[0].content }}",
        bos_token="<s>",
        eos_token="</s>",
        special_tokens=("<s>", "</s>"),
        token_characters_max=0,
        adds_space=False,
    ) == read_facts(path)


def test_files_are_told_apart_by_their_size_beginning_and_end(tmp_path: Path) -> None:
    digests = set()
    size = 10 * 2**20
    for number, (at, written) in enumerate([(0, b"a"), (0, b"b"), (size - 1, b"a"), (size, b"a")]):
        path = tmp_path / str(number)
        path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            file.seek(at)
            file.write(written)
        digests |= {digest(path), digest(path)}

    assert 4 == len(digests)


def test_a_lying_header_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "mutant.gguf"
    outcomes = {"read": 0, "refused": 0}
    for seed in range(MUTANTS):
        path.write_bytes(mutant(seed))
        try:
            read_facts(path)
            outcomes["read"] += 1
        except GgufError:
            outcomes["refused"] += 1

    assert MUTANTS == sum(outcomes.values())
    assert min(outcomes.values()) > MUTANTS // 20


def test_the_real_header_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with embedded_path().open("rb") as file:
        beginning = file.read(200_000)
    for size in [*range(0, 200), *range(200, 200_000, 4_999)]:
        path.write_bytes(beginning[:size])
        with pytest.raises(GgufError):
            read_facts(path)


def cut_real(size: int) -> Callable[[Path], None]:
    """The real file's beginning, or without its end when `size` is negative; sparse where nothing is read."""

    def write(path: Path) -> None:
        whole = embedded_path().stat().st_size
        with embedded_path().open("rb") as source, path.open("wb") as target:
            left = size if size >= 0 else whole + size
            while left > 0 and (block := source.read(min(left, 2**20))):
                target.write(block)
                left -= len(block)

    return write


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"G"),
    "junk": lambda path: path.write_bytes(random.Random(1).randbytes(100_000)),
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n" * 10),
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "only a magic number": lambda path: path.write_bytes(b"GGUF" + bytes(20)),
    "no tensors": lambda path: path.write_bytes(tiny_gguf()),
    "cut in its header": cut_real(50_000),
    "cut behind its header": cut_real(4_000_000),
    "without its last byte": cut_real(-1),
    **{f"mutant {seed}": lambda path, seed=seed: path.write_bytes(mutant(seed)) for seed in range(LOADED_MUTANTS)},
}


@pytest.mark.slow
def test_every_bad_file_is_refused_by_its_name(tmp_path: Path) -> None:
    async def load(name: str, write: Callable[[Path], object], turn: asyncio.Semaphore) -> tuple[str, str]:
        path = tmp_path / f"{name}.gguf"
        write(path)
        async with turn:
            with pytest.raises(EngineLoadError) as refusal:
                await EngineProcess.start(LlamaCppSettings(path, load_timeout_s=60))
        path.unlink()
        return name, str(refusal.value)

    async def load_all() -> list[tuple[str, str]]:
        turn = asyncio.Semaphore(2)
        return await asyncio.gather(*(load(name, write, turn) for name, write in BAD_FILES.items()))

    refusals = asyncio.run(load_all())

    assert list(BAD_FILES) == [name for name, _ in refusals]
    assert [] == [text for name, text in refusals if not text.startswith(f"{tmp_path}/{name}.gguf: ")]
    assert [] == [text for _, text in refusals if "\n" in text or "Traceback" in text]


def no_permission(path: Path) -> None:
    path.write_bytes(tiny_gguf())
    path.chmod(0)


def without_the_rights_of_root() -> None:
    """Run in the new process: file permissions count for root too. Nobody else has these rights to lose."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


COMMAND_LINE_CASES: dict[str, Callable[[Path], object]] = {
    "empty": BAD_FILES["empty"],
    "junk": BAD_FILES["junk"],
    "[cut] in its header": BAD_FILES["cut in its header"],
    "cut behind its header": BAD_FILES["cut behind its header"],
    "directory": Path.mkdir,
    "no permission": no_permission,
    "not there": lambda path: None,
    "dangling link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMAND_LINE_CASES)
def test_the_command_says_in_one_line_what_is_wrong_with_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.gguf"
    COMMAND_LINE_CASES[name](path)

    ended = subprocess.run(
        [sys.executable, "-m", "sestet.cli.main", "serve", "--port", str(free_port()), "--model", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        preexec_fn=without_the_rights_of_root,
        env={name: value for name, value in os.environ.items() if not name.startswith("SESTET_")},
        check=False,
    )
    last = ended.stderr.strip().splitlines()[-1]

    assert 2 == ended.returncode, ended.stderr
    assert last.startswith("sestet: ")
    assert str(path) in last
    assert [line for line in ended.stderr.strip().splitlines()[:-1] if not line.startswith("Loading ")] == []
    assert "" == ended.stdout
