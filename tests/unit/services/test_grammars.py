"""Grammars are compiled once, off the event loop, for a bounded time; what cannot be compiled is the client's."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from llguidance import LLMatcher

from sestet.contract.errors import ApiError
from sestet.services import grammars
from sestet.services.grammars import CACHED_MAX, Grammars
from sestet.turn.grammar import of_schema

PATH = "tools.0.input_schema"


class Compiler:
    """Says the same of every grammar, and keeps what it was asked and in which threads."""

    def __init__(self, complaint: str = "", error: BaseException | None = None) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()
        self._complaint = complaint
        self._error = error

    def __call__(self, grammar: str) -> str:
        self.asked.append(grammar)
        self.threads.add(threading.get_ident())
        if self._error is not None:
            raise self._error
        return self._complaint


def checked(compiler: Callable[[str], str], *texts: str) -> list[str]:
    async def run() -> list[str]:
        known = Grammars(compiler)
        return [await known.checked(text, PATH) for text in texts]

    return asyncio.run(run())


def refused(compiler: Callable[[str], str], text: str = "g") -> ApiError:
    with pytest.raises(ApiError) as caught:
        checked(compiler, text)
    return caught.value


def test_a_grammar_that_compiles_is_given_back() -> None:
    assert ["g", "h"] == checked(Compiler(), "g", "h")


def test_a_grammar_is_compiled_once_and_not_on_the_event_loop() -> None:
    compiler = Compiler()
    checked(compiler, "g", "h", "g", "g", "h")

    assert ["g", "h"] == compiler.asked
    assert threading.get_ident() not in compiler.threads


def test_a_refused_grammar_is_compiled_once_too() -> None:
    compiler = Compiler("it is wrong")

    async def run() -> list[str]:
        known, told = Grammars(compiler), []
        for path in ("a", "b"):
            try:
                await known.checked("g", path)
            except ApiError as error:
                told.append(error.message)
        return told

    assert ["a: the schema cannot be used: it is wrong", "b: the schema cannot be used: it is wrong"] == asyncio.run(
        run()
    )
    assert ["g"] == compiler.asked


def test_the_least_recently_used_grammar_is_forgotten() -> None:
    compiler = Compiler()
    many = [str(number) for number in range(CACHED_MAX)]
    checked(compiler, *many, "0", "one more", "0", "1")

    assert [*many, "one more", "1"] == compiler.asked


def test_a_complaint_is_the_clients_by_its_path() -> None:
    error = refused(Compiler("no such type\n   1 | a line of ours"))

    assert ("invalid_request_error", 400, PATH) == (error.kind, error.status, error.param)
    assert f"{PATH}: the schema cannot be used: no such type" == error.message


def test_a_long_complaint_is_cut() -> None:
    assert len(refused(Compiler("x" * 100_000)).message) < 400


def test_a_complaint_of_no_words_is_not_taken_for_consent() -> None:
    assert "invalid_request_error" == refused(Compiler("\n")).kind


@pytest.mark.parametrize("text", ["not lark at all", 'start: %json {"type": "strin"}', "start: nothing", "start: /(/"])
def test_the_compiler_itself_complains(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        asyncio.run(Grammars(LLMatcher.validate_grammar).checked(text, PATH))

    assert ("invalid_request_error", PATH) == (caught.value.kind, caught.value.param)


def test_the_compiler_itself_takes_what_it_can() -> None:
    assert asyncio.run(Grammars(LLMatcher.validate_grammar).checked(of_schema({"type": "string"}), PATH))


def test_what_the_compiler_raises_about_a_grammar_is_a_complaint() -> None:
    assert "invalid_request_error" == refused(Compiler(error=ValueError("no"))).kind


def test_an_error_without_words_is_a_complaint_too() -> None:
    assert "invalid_request_error" == refused(Compiler(error=ValueError())).kind


def test_no_memory_is_ours() -> None:
    assert "api_error" == refused(Compiler(error=MemoryError())).kind


class Panic(BaseException):
    """What a library in Rust raises when it panics is no `Exception`."""


@pytest.mark.parametrize("error", [Panic("called `Option::unwrap()` on a `None` value"), RecursionError("deep")])
def test_a_panic_of_the_compiler_is_an_answer(error: BaseException) -> None:
    refusal = refused(Compiler(error=error))

    assert refusal.kind in ("invalid_request_error", "api_error")
    assert "unwrap" not in refusal.message


class Stuck:
    """A compiler that takes as long as it is let."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, grammar: str) -> str:
        if grammar == "quick":
            return ""
        self.started.release()
        self.release.wait()
        return ""


def test_a_compiler_that_takes_too_long_is_not_waited_for() -> None:
    stuck = Stuck()

    async def run() -> ApiError:
        try:
            with pytest.raises(ApiError) as caught:
                await Grammars(stuck, compile_max_s=0.2).checked("slow", PATH)
            return caught.value
        finally:
            stuck.release.set()

    assert f"{PATH}: Schema is too complex for compilation." == asyncio.run(run()).message


def test_compilers_that_take_too_long_do_not_keep_others_from_theirs() -> None:
    stuck = Stuck()

    async def run() -> str:
        known = Grammars(stuck, compile_max_s=0.2)
        slow = [asyncio.create_task(known.checked(f"slow {number}", PATH)) for number in range(2 * grammars.AT_ONCE)]
        try:
            refusals = await asyncio.gather(*slow, return_exceptions=True)
            assert all(isinstance(one, ApiError) for one in refusals)
            return await known.checked("quick", PATH)
        finally:
            stuck.release.set()

    assert "quick" == asyncio.run(run())


def test_a_few_are_compiled_at_once_and_the_rest_wait() -> None:
    stuck = Stuck()

    async def run() -> int:
        known = Grammars(stuck)
        tasks = [asyncio.create_task(known.checked(f"slow {number}", PATH)) for number in range(grammars.AT_ONCE + 2)]
        for _ in range(grammars.AT_ONCE):
            await asyncio.to_thread(stuck.started.acquire)
        more = await asyncio.to_thread(stuck.started.acquire, True, 0.05)
        stuck.release.set()
        await asyncio.gather(*tasks)
        return more

    assert asyncio.run(run()) is False
