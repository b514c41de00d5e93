"""Chat templates are code from strangers, inside a file: one that eats memory ends the engine's process, not ours."""

import asyncio
from pathlib import Path

import pytest

from sestet.engines.llamacpp.process import EngineLoadError, EngineProcess, LlamaCppSettings
from tests.unit.engines.gguf_file import STRING, gguf, with_entry

MEMORY_BOMBS = {
    "doubling": "{% set ns = namespace(s='aaaaaaaaaa') %}"
    "{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "replacing": "{{ 'a' | replace('a', 'b' * 100000) | replace('b', 'c' * 100000) | length }}",
    "joining": "{{ (['a' * 100000] * 100000) | join('') | length }}",
}


def load_error(file: Path, template: str) -> str:
    file.write_bytes(gguf(with_entry("tokenizer.chat_template", (STRING, template))))
    with pytest.raises(EngineLoadError) as caught:
        asyncio.run(EngineProcess.start(LlamaCppSettings(file, load_timeout_s=60)))
    return str(caught.value)


@pytest.mark.parametrize("template", MEMORY_BOMBS.values(), ids=MEMORY_BOMBS)
def test_a_template_that_eats_memory_is_refused_at_load(tmp_path: Path, template: str) -> None:
    assert load_error(tmp_path / "bomb.gguf", template).startswith(f"{tmp_path}/bomb.gguf: ")


def test_a_template_that_does_not_compile_is_refused_with_its_own_words(tmp_path: Path) -> None:
    error = load_error(tmp_path / "broken.gguf", "{% if %}")

    assert error.startswith(f"{tmp_path}/broken.gguf: its chat template cannot be used: ")
