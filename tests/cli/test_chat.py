"""`sestet chat` with a real server on the scripted engine: in a pipe, and in a terminal."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from sestet.cli.conversation import Conversation
from tests.cli.conftest import Run, refusal
from tests.cli.hub import Hub, running
from tests.cli.terminal import Terminal
from tests.running import RunningServer, start_server

SCRIPT = r"""
[[reply]]
when = "assistant\nfirst answer"
say = ["I remember."]
[[reply]]
when = "begin"
say = ["first", " answer"]
[[reply]]
when = "escape"
say = ["\u001b]0;title\u0007", "\u001b[31mred\u009b31m", "\tab\r\nline\rover \u202egnol"]
[[reply]]
when = "endless"
say = ["tick "]
repeat = 100000
tokens_per_s = 50
[[reply]]
when = "hang"
say = ["one ", "two"]
then = "hang"
[[reply]]
when = "break"
say = ["half"]
then = "error"
[[reply]]
when = "system\nBe brief."
say = ["Yes."]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = start_server(tmp_path_factory.mktemp("chat"), script=SCRIPT)
    yield server
    server.stop()


def replies_running(server: RunningServer) -> float:
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sestet_slots_running{"))


def wait_until_nothing_runs(server: RunningServer) -> None:
    deadline = time.monotonic() + 20
    while replies_running(server) != 0:
        assert time.monotonic() < deadline, "a reply goes on without a reader"
        time.sleep(0.02)


def test_in_a_pipe_it_prints_the_reply_and_nothing_else(run: Run, server: RunningServer) -> None:
    result = run("chat", "--url", server.url, stdin="hi\n")

    assert (0, "This is the scripted engine.\n", "") == (result.exit_code, result.stdout, result.stderr)


def test_the_system_prompt_the_model_and_the_limit_are_sent(run: Run, server: RunningServer) -> None:
    options = ("--system", "Be brief.", "--model", "claude-3-7-sonnet-latest", "--max-tokens", "1")

    result = run("chat", "--url", server.url, *options, stdin="hi")

    assert (0, "Yes.\n", "(cut at --max-tokens)\n") == (result.exit_code, result.stdout, result.stderr)


def test_a_reply_cannot_command_the_terminal(run: Run, server: RunningServer) -> None:
    result = run("chat", "--url", server.url, stdin="escape")

    assert "␛]0;title␇␛[31mred\\x9b31m\tab\nlineover \\u202egnol\n" == result.stdout


def test_a_reply_is_printed_as_it_comes(server: RunningServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sestet.cli.main", "chat", "--url", server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hang")
    process.stdin.close()

    shown = b"".join(process.stdout.read(1) for _ in range(len("one two")))

    assert b"one two" == shown
    assert 1 == replies_running(server)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until_nothing_runs(server)


def test_an_empty_question_is_refused(run: Run, server: RunningServer) -> None:
    assert "there is no question on the standard input" in refusal(run("chat", "--url", server.url, stdin=" \n"))


def test_a_reply_that_fails_is_told_and_ends_with_status_2(server: RunningServer) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sestet.cli.main", "chat", "--url", server.url],
        input="break",
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )

    assert (2, "half", "sestet: the reply failed: the engine failed\n") == (
        ended.returncode,
        ended.stdout,
        ended.stderr,
    )


def test_no_server_is_told(run: Run) -> None:
    assert "nothing answers at http://127.0.0.1:1; start `sestet serve` in another terminal, or give --url" == refusal(
        run("chat", "--url", "http://127.0.0.1:1", stdin="hi")
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://[", ""])
def test_what_is_no_address_is_told(run: Run, url: str) -> None:
    refusal(run("chat", "--url", url, stdin="hi"))


def test_another_kind_of_server_is_told(run: Run) -> None:
    with running(Hub()) as hub:
        line = refusal(run("chat", "--url", hub.url, stdin="hi"))

    assert f"{hub.url} answers 404 and not as the Messages API does; is it a Sestet?" == line


START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
)


@pytest.mark.parametrize(
    ("content_type", "body", "line"),
    [
        ("text/event-stream", START, "the connection ended in the middle of the reply"),
        ("text/event-stream", b"data: {}\n\n", "the connection ended in the middle of the reply"),
        ("text/event-stream", b"data: no JSON\n\n", "what {} answers is not the Messages API; is it a Sestet?"),
        (
            "text/event-stream",
            b'data: {"type":"error"}\n\n',
            "what {} answers is not the Messages API; is it a Sestet?",
        ),
        ("text/html", b"<p>hello", "what {} answers is no stream of the Messages API; is it a Sestet?"),
    ],
)
def test_a_stream_that_is_none_is_told(run: Run, content_type: str, body: bytes, line: str) -> None:
    with running(Hub()) as hub:
        hub.answers = {
            "/v1/models?limit=1": ("application/json", b'{"data":[{"id":"other"}]}'),
            "/v1/messages": (content_type, body),
        }
        told = refusal(run("chat", "--url", hub.url, stdin="hi"))

    assert line.format(hub.url) == told


def test_an_unknown_model_is_told(run: Run, server: RunningServer) -> None:
    line = refusal(run("chat", "--url", server.url, "--model", "../healthz", stdin="hi"))

    assert "`../healthz` is not served here" in line


def test_the_key_is_asked_for_and_taken_from_the_environment(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keyed = start_server(tmp_path_factory.mktemp("keyed"), script="", config='[access]\nkeys = ["sk-mine"]\n')
    try:
        without = run("chat", "--url", keyed.url, stdin="hi")
        with_it = run("chat", "--url", keyed.url, stdin="hi", env={"ANTHROPIC_API_KEY": "sk-mine"})
    finally:
        keyed.stop()

    assert refusal(without).endswith("; give the key with --key or in ANTHROPIC_API_KEY")
    assert "This is the scripted engine.\n" == with_it.stdout


def test_a_conversation_in_a_terminal(server: RunningServer) -> None:
    with Terminal("chat", "--url", server.url, "--model", "claude-3-7-sonnet-latest") as terminal:
        assert [
            f"Talking to claude-3-7-sonnet-latest at {server.url}.",
            "It is a stand-in: scripted-20260101 answers.",
            "/new starts over, /usage shows tokens, /exit leaves, Ctrl-C stops a reply.",
            "/think N allows a thought of N tokens, /think off none, /thought shows the last.",
            "",
            "> ",
        ] == terminal.wait_for("> ").split("\n")
        terminal.press("begin\n")
        terminal.wait_for("first answer\n\n> ")
        terminal.press("again\n")
        terminal.wait_for("I remember.\n\n> ")
        terminal.press("/usage\n")
        terminal.wait_for("Last reply: 133 tokens in, 1 out. Since the start: 188 in, 3 out.\n\n> ")
        terminal.press("/new\n")
        terminal.wait_for("A new conversation.\n\n> ")
        terminal.press("again\n")
        terminal.wait_for("This is the scripted engine.\n\n> ")
        terminal.press("/what\n")
        terminal.wait_for("/new starts over, ")
        terminal.wait_for("> ")
        terminal.press("/exit\n")

        assert 0 == terminal.ended()


def test_ctrl_c_stops_the_reply_and_the_engine_but_not_the_program(server: RunningServer) -> None:
    with Terminal("chat", "--url", server.url) as terminal:
        terminal.wait_for("> ")
        terminal.press("endless\n")
        terminal.wait_for("tick tick ")
        terminal.press("\x03")
        terminal.wait_for("(stopped)\n\n> ")
        wait_until_nothing_runs(server)
        terminal.press("half a line\x03")
        terminal.wait_for("(/exit or Ctrl-D leaves)\n> ")
        terminal.press("begin\n")
        terminal.wait_for("first answer\n\n> ")
        terminal.press("\x04")

        assert 0 == terminal.ended()


def test_a_reply_that_fails_leaves_the_conversation_as_it_was(server: RunningServer) -> None:
    with Terminal("chat", "--url", server.url) as terminal:
        terminal.wait_for("> ")
        terminal.press("begin\n")
        terminal.wait_for("first answer\n\n> ")
        terminal.press("break\n")  # the memory of the first answer comes before, so this one does not break
        terminal.wait_for("I remember.\n\n> ")
        terminal.press("/new\n")
        terminal.wait_for("> ")
        terminal.press("break\n")
        terminal.wait_for("sestet: the reply failed: the engine failed\n\n> ")
        terminal.press("again\n")  # with the broken turn before it, it would break as well
        terminal.wait_for("This is the scripted engine.\n\n> ")
        terminal.press("/exit\n")

        assert 0 == terminal.ended()


def test_what_was_said_before_a_stop_stays_in_the_conversation(server: RunningServer) -> None:
    with Conversation(server.url, None, None, 100) as conversation:
        conversation.choose(None)
        reply = conversation.say("endless")
        assert "tick " == next(reply)
        reply.close()
        wait_until_nothing_runs(server)

        assert "first answer" == answer(conversation, "begin")
        assert "I remember." == answer(conversation, "more")


def answer(conversation: Conversation, question: str) -> str:
    return "".join(piece for piece in conversation.say(question) if isinstance(piece, str))
