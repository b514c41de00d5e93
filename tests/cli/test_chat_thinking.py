"""Thoughts in `sestet chat`: what is asked for, what is shown of them, and what goes back to the server."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sestet.cli.conversation import Conversation, Thought
from sestet.cli.failure import Failure
from sestet.cli.printable import printable
from tests.cli.conftest import Run, refusal
from tests.cli.terminal import Terminal
from tests.cli.test_chat import answer, wait_until_nothing_runs
from tests.running import RunningServer, start_server

Step = dict[str, Any] | threading.Event
COLUMNS, LINES = 60, 12
DRAWN = "\x1b[?7h\x1b[J"  # the end of each drawing of a fold
SUMMARY = "thought for N s, ~5 tokens (/thought shows it)"
WITHHELD = "thought for N s (the server keeps it to itself)"


class Thinker(ThreadingHTTPServer):
    """A server that says these replies one after the other: events of a stream, and waits for a `threading.Event`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.replies: list[list[Step]] = []
        self.asked: list[dict[str, Any]] = []
        self.refusal: str | None = None
        self.left = threading.Event()  # a client went away in the middle of a reply

    def will_say(self, *blocks: list[Step], usage: dict[str, Any] | None = None, stop_reason: str = "end_turn") -> None:
        self.replies.append(
            [
                {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}},
                *(step for block in blocks for step in block),
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": stop_reason},
                    "usage": usage or {"output_tokens": 9},
                },
                {"type": "message_stop"},
            ]
        )

    def handle_error(self, request: object, client_address: object) -> None:
        self.left.set()


class _Handler(BaseHTTPRequestHandler):
    server: Thinker

    def log_message(self, *_: object) -> None:
        """The test's output is not a log."""

    def do_GET(self) -> None:
        self._answer(200, "application/json", b'{"data": [{"id": "thinker"}]}')

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if self.server.refusal is not None:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": self.server.refusal}}
            self._answer(400, "application/json", json.dumps(error).encode())
            return
        self._answer(200, "text/event-stream", b"")
        for step in self.server.replies.pop(0):
            if isinstance(step, threading.Event):
                step.wait(30)
            else:
                self.wfile.write(f"event: {step['type']}\ndata: {json.dumps(step)}\n\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.end_headers()
        self.wfile.write(body)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any] | threading.Event) -> list[Step]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *(
            delta
            if isinstance(delta, threading.Event)
            else {"type": "content_block_delta", "index": index, "delta": delta}
            for delta in deltas
        ),
        {"type": "content_block_stop", "index": index},
    ]


def thinking(index: int, *pieces: str | threading.Event, signature: str = "c2ln") -> list[Step]:
    deltas = (piece if isinstance(piece, threading.Event) else thinking_delta(piece) for piece in pieces)
    end = {"type": "signature_delta", "signature": signature}
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas, end)


def thinking_delta(piece: str) -> dict[str, Any]:
    return {"type": "thinking_delta", "thinking": piece}


def text(index: int, *pieces: str) -> list[Step]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


@dataclass
class Screen:
    """What a terminal of this size shows, and the lines that scrolled out of it. Knows only what a chat may send.

    It is of the kind that gives each character its own cells, and those of a joined emoji as well.
    """

    columns: int = COLUMNS
    height: int = LINES
    lines: list[list[str]] = field(default_factory=lambda: [[]])
    faint: set[int] = field(default_factory=set)
    row: int = 0
    column: int = 0
    wraps: bool = True
    dim: bool = False

    def feed(self, shown: str) -> "Screen":
        for sequence, character in re.findall(r"(\x1b\[[?\d;]*[A-Za-z])|(.)", shown, re.DOTALL):
            if sequence:
                self._obey(sequence)
            elif character == "\n":
                self._next_line()
            elif character == "\r":
                self.column = 0
            else:
                self._put(character)
        return self

    @property
    def text(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.lines]

    @property
    def dimmed(self) -> list[str]:
        return [line for row, line in enumerate(self.text) if row in self.faint]

    def last(self, line: str) -> int:
        return max(row for row, text in enumerate(self.text) if line == text)

    def _obey(self, sequence: str) -> None:
        match sequence[2:-1], sequence[-1]:
            case number, "A":
                top = max(0, len(self.lines) - self.height)
                self.row = max(top, self.row - int(number))
            case "", "K":
                del self.lines[self.row][self.column :]
            case "", "J":
                del self.lines[self.row][self.column :]
                del self.lines[self.row + 1 :]
                self.faint = {row for row in self.faint if row < self.row + (self.column > 0)}
            case "?7", "h" | "l":
                self.wraps = sequence[-1] == "h"
            case "2" | "31" | "0", "m":
                self.dim = sequence == "\x1b[2m"
            case "?2004", "h" | "l":  # what is pasted is marked
                pass
            case _:
                raise AssertionError(f"{sequence!r} is nothing that a chat needs")

    def _put(self, character: str) -> None:
        assert character.isprintable() or unicodedata.category(character) in {"Cf", "Zs"}, f"{character!r} is sent"
        if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
            return
        wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self.column + wide > self.columns:
            if self.wraps:
                self._next_line()
            else:
                self.column = self.columns - wide
        line = self.lines[self.row]
        line.extend(" " * (self.column - len(line)))
        line[self.column : self.column + wide] = [character, *[""] * (wide - 1)]
        self.column += wide
        if self.dim:
            self.faint.add(self.row)
        else:
            self.faint.discard(self.row)

    def _next_line(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append([])


def screen(terminal: Terminal) -> Screen:
    """What it shows now from the first prompt on, with times left out."""
    return Screen().feed(re.sub(r"\d+\.\d s", "N s", from_first_prompt(terminal)))


def from_first_prompt(terminal: Terminal) -> str:
    return "".join(terminal.shown.partition("> ")[1:])


@pytest.fixture
def thinker() -> Iterator[Thinker]:
    server = Thinker()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def conversation(thinker: Thinker) -> Conversation:
    one = Conversation(thinker.url, None, None, 100)
    one.choose(None)
    return one


def chat(thinker: Thinker, *arguments: str, environment: dict[str, str] | None = None) -> Terminal:
    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    color = {"TERM": "xterm", "NO_COLOR": ""}
    return Terminal("chat", "--url", thinker.url, *arguments, environment={**size, **color, **(environment or {})})


def sent_back(thinker: Thinker) -> list[dict[str, Any]]:
    """The messages of the last request but its question."""
    messages: list[dict[str, Any]] = thinker.asked[-1]["messages"]
    return messages[:-1]


# What is asked for


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), {"max_tokens": 1024}),
        (("--think", "1024"), {"max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (
            ("--think", "2000", "--max-tokens", "50"),
            {"max_tokens": 2050, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            ("--effort", "xhigh"),
            {
                "max_tokens": 1024,
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "xhigh"},
            },
        ),
    ],
)
def test_a_budget_is_asked_for_beside_the_answer_and_an_effort_within_it(
    run: Run, thinker: Thinker, options: tuple[str, ...], asked: dict[str, Any]
) -> None:
    thinker.will_say(text(0, "Yes."))

    run("chat", "--url", thinker.url, *options, stdin="hi")

    assert [
        {"model": "thinker", "messages": [{"role": "user", "content": "hi"}], "stream": True, **asked}
    ] == thinker.asked


def test_a_budget_and_an_effort_together_are_refused(run: Run, thinker: Thinker) -> None:
    result = run("chat", "--url", thinker.url, "--think", "2048", "--effort", "low", stdin="hi")

    assert "--think sets a budget and --effort leaves it to the model; give one of them" == refusal(result)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--think", "1023"), "greater than or equal to 1024"),
        (("--think", "much"), "should be a valid integer"),
        (("--effort", "little"), "'little' is not one of 'low', 'medium', 'high', 'xhigh', 'max'"),
    ],
)
def test_what_is_no_budget_or_effort_is_told(run: Run, thinker: Thinker, options: tuple[str, ...], why: str) -> None:
    result = run("chat", "--url", thinker.url, *options, stdin="hi", env={"COLUMNS": "200"})

    assert (2, []) == (result.exit_code, thinker.asked)
    assert why in result.stderr


def test_a_server_that_does_not_think_is_told_in_its_own_words(run: Run, thinker: Thinker) -> None:
    thinker.refusal = "thinking: this model does not think"

    line = refusal(run("chat", "--url", thinker.url, "--think", "2048", stdin="hi"))

    assert "thinking: this model does not think" == line


# What a pipe gets


def test_in_a_pipe_nothing_of_the_thought_is_shown(run: Run, thinker: Thinker) -> None:
    thinker.will_say(thinking(0, "Let me ", "see."), text(1, "It is ", "blue."))

    result = run("chat", "--url", thinker.url, "--think", "2048", stdin="hi")

    assert (0, "It is blue.\n", "") == (result.exit_code, result.stdout, result.stderr)


def test_a_thought_that_is_asked_for_goes_to_standard_error_and_cannot_command_the_terminal(
    run: Run, thinker: Thinker
) -> None:
    thinker.will_say(
        thinking(0, "A\tthought\n", "\x1b[2J\u202e", "."), thinking(1, "Another.\n"), text(2, "It is blue.")
    )

    result = run("chat", "--url", thinker.url, "--think", "2048", "--show-thought", stdin="hi")

    assert "It is blue.\n" == result.stdout
    assert "A\tthought\n␛[2J\\u202e.\n\nAnother.\n" == result.stderr


def test_kinds_of_blocks_and_deltas_that_nobody_knows_yet_are_read_past(run: Run, thinker: Thinker) -> None:
    thinker.will_say(
        block(0, {"type": "dream", "about": [1]}, {"type": "dream_delta", "dream": {}}),
        block(1, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "mood_delta", "mood": 3}),
        block(2, {"type": "text", "text": "It "}, {"type": "citations_delta"}, {"type": "text_delta", "text": "is."}),
        [{"type": "block_of_blocks"}],
    )

    result = run("chat", "--url", thinker.url, stdin="hi")

    assert (0, "It is.\n", "") == (result.exit_code, result.stdout, result.stderr)


def test_where_only_the_answer_is_redirected_nothing_of_the_thought_is_shown(thinker: Thinker) -> None:
    master, terminal = pty.openpty()
    thinker.will_say(thinking(0, "Let me ", "see."), text(1, "It is blue."))

    ended = subprocess.run(
        [sys.executable, "-m", "sestet.cli.main", "chat", "--url", thinker.url],
        input="hi",
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env={**os.environ, "TERM": "xterm", "NO_PROXY": "127.0.0.1"},
    )
    os.write(terminal, b"(end)")

    assert "It is blue.\n" == ended.stdout
    assert b"(end)" == os.read(master, 1000)
    os.close(master)
    os.close(terminal)


# What goes back


def test_a_reply_goes_back_as_it_came_block_by_block(thinker: Thinker) -> None:
    blocks = (
        thinking(0, " First,", " \n\n", signature="Zmlyc3Q="),
        block(1, {"type": "redacted_thinking", "data": "c2VjcmV0"}),
        block(
            2,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "signature_delta", "signature": "b21pdHRlZA=="},
        ),
        block(3, {"type": "dream", "about": [1]}),
        text(4, " It", " is blue. \n"),
    )
    thinker.will_say(*blocks)
    thinker.will_say(text(0, "Yes."))
    thinker.will_say(text(0, "Yes."))
    with conversation(thinker) as one:
        said = [answer(one, "a") for _ in range(3)]

    assert [" It is blue. \n", "Yes.", "Yes."] == said
    assert [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": " First, \n\n", "signature": "Zmlyc3Q="},
                {"type": "redacted_thinking", "data": "c2VjcmV0"},
                {"type": "thinking", "thinking": "", "signature": "b21pdHRlZA=="},
                {"type": "dream", "about": [1]},
                {"type": "text", "text": " It is blue."},
            ],
        },
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
    ] == sent_back(thinker)


@pytest.mark.parametrize(
    "unusable",
    [
        thinking(1, "not signed", signature=""),
        block(1, {"type": "dream", "about": []}, {"type": "dream_delta", "more": "of it"}),
        text(1, "\n"),
        text(1),
        block(1, {}),
    ],
    ids=["thought without signature", "block we cannot read whole", "white space", "no text", "nothing"],
)
def test_what_no_server_takes_back_is_not_sent(thinker: Thinker, unusable: list[Step]) -> None:
    thinker.will_say(text(0, "It is "), unusable, text(2, "blue."), thinking(3, "After the answer."))
    thinker.will_say(text(0, "Yes."))
    with conversation(thinker) as one:
        list(one.say("a"))
        list(one.say("b"))

    assert [{"type": "text", "text": "It is "}, {"type": "text", "text": "blue."}] == sent_back(thinker)[1]["content"]


def test_wherever_a_reply_is_cut_what_goes_back_is_whole(thinker: Thinker) -> None:
    first = {"type": "thinking", "thinking": "a b", "signature": "Zmlyc3Q="}
    second = {"type": "thinking", "thinking": "e f", "signature": "c2Vjb25k"}
    kept = []
    pieces = ["", "a", " b", "c", " ", "d", "\n\n", "e", " f", "g"]
    for count in range(1, len(pieces) + 1):
        thinker.will_say(
            thinking(0, "a", " b", signature="Zmlyc3Q="),
            text(1, "c", " ", "d"),
            thinking(2, "e", " f", signature="c2Vjb25k"),
            text(3, "g"),
        )
        thinker.will_say(text(0, "Yes."))
        with conversation(thinker) as one:
            reply = one.say("a")
            came = [next(reply) for _ in range(count)]
            reply.close()
            list(one.say("b"))
        kept.append([message["content"] for message in sent_back(thinker)][1:])

        assert pieces[:count] == [piece.text if isinstance(piece, Thought) else piece for piece in came]

    assert [
        [],
        [],
        [],
        [[first, {"type": "text", "text": "c"}]],
        [[first, {"type": "text", "text": "c"}]],
        *[[[first, {"type": "text", "text": "c d"}]]] * 4,
        [[first, {"type": "text", "text": "c d"}, second, {"type": "text", "text": "g"}]],
    ] == kept


@pytest.mark.parametrize(
    "blocks",
    [
        [thinking(0, "All went into the thought")],
        [thinking(0, "And nothing to say"), text(1, " \n")],
        [block(0, {"type": "redacted_thinking", "data": "c2VjcmV0"})],
        [],
    ],
)
def test_a_turn_without_text_keeps_nothing(thinker: Thinker, blocks: list[list[Step]]) -> None:
    thinker.will_say(*blocks, stop_reason="max_tokens")
    thinker.will_say(text(0, "Yes."))
    with conversation(thinker) as one:
        list(one.say("a"))
        list(one.say("b"))

    assert [] == sent_back(thinker)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "from nowhere"}},
        {"type": "content_block_start", "index": [], "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_start", "index": 5},
        {"type": "error", "error": {"message": "enough"}},
    ],
)
def test_a_turn_that_fails_keeps_nothing(thinker: Thinker, step: Step) -> None:
    thinker.will_say(thinking(0, "Hm."), text(1, "Well."), [step])
    thinker.will_say(text(0, "Yes."))
    with conversation(thinker) as one:
        with pytest.raises(Failure):
            list(one.say("a"))
        list(one.say("b"))

    assert [] == sent_back(thinker)


# What a terminal shows


def test_a_thought_is_folded_while_it_comes_and_then_one_line(thinker: Thinker) -> None:
    more, enough = threading.Event(), threading.Event()
    thinker.will_say(
        thinking(0, "one\n", "two\n\nthree", " and so on\n", more, "fo", "ur", enough),
        text(1, "It is ", "blue."),
        usage={"output_tokens": 1234, "output_tokens_details": {"thinking_tokens": 1200}},
    )
    with chat(thinker, "--think", "2048") as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("~3 tokens")
        terminal.wait_for(DRAWN)
        before = screen(terminal)
        more.set()
        terminal.wait_for("~5 tokens")
        terminal.wait_for(DRAWN)
        later = screen(terminal)
        enough.set()
        terminal.wait_for("blue.\n\n> ")
        after = screen(terminal)
        terminal.press("/thought\n")
        terminal.wait_for("\n\n> ")
        terminal.press("/usage\n")
        terminal.wait_for("\n\n> ")
        end = screen(terminal)

    assert ["> why", "thinking... ~3 tokens", "  one", "  two", "  three and so on", ""] == before.text
    assert before.text[1:-1] == before.dimmed
    assert ["> why", "thinking... ~5 tokens", "  two", "  three and so on", "  four", ""] == later.text
    assert ["> why", SUMMARY, "It is blue.", "", ">"] == after.text
    assert [SUMMARY] == after.dimmed
    assert ["> /thought", "one", "two", "", "three and so on", "four", ""] == end.text[4:11]
    assert [
        "> /usage",
        "Last reply: 7 tokens in, 1,234 out (1,200 of them thinking).",
        "Since the start: 7 in, 1,234 out (1,200 of them thinking).",
        "",
        ">",
    ] == end.text[11:]


def test_a_long_line_goes_on_in_the_next_and_the_last_three_are_shown(thinker: Thinker) -> None:
    enough = threading.Event()
    words = [f"word{number} " for number in range(100, 140)]
    thinker.will_say(thinking(0, *words, enough), text(1, "Blue."))
    with chat(thinker) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("~40 tokens")
        terminal.wait_for(DRAWN)
        enough.set()

        assert [
            "> why",
            "thinking... ~40 tokens",
            "  word121 word122 word123 word124 word125 word126 word127",
            "  word128 word129 word130 word131 word132 word133 word134",
            "  word135 word136 word137 word138 word139",
            "",
        ] == screen(terminal).text


WIDE = "Der Himmel ist blau, denn \u5929\u7a7a" + "\u662f\u84dd\u8272\u7684" * 30
UNTRUSTED = [
    WIDE,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 40,  # joined, so two cells to us and six to this screen
    "\x1b[2J\x1b[10A\x9b1A\r\x07\u202e\t\x0b" * 20,
    "x" * 500,
    "word " * 200,
    "e" + "\u0301" * 5000,  # without width
    "\n" * 50,
    "\t" * 99,
    "a\n" * 40 + WIDE,
]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_no_thought_breaks_the_fold(thinker: Thinker, step: int) -> None:
    """Whatever is in it, and however it is cut into pieces, all that was drawn is gone in the end."""
    expected = []
    with chat(thinker) as terminal:
        terminal.wait_for("> ")
        for thought in UNTRUSTED:
            pieces = [thought[at : at + step] for at in range(0, min(len(thought), 400 * step), step)]
            thinker.will_say(thinking(0, *pieces), text(1, "It is blue."))
            terminal.press("why\n")
            terminal.wait_for("blue.\n\n> ")
            counted = sum(printable(piece).strip() != "" for piece in pieces)
            summary = SUMMARY.replace("~5", f"~{counted}") if counted else WITHHELD
            expected += ["> why", summary, "It is blue.", ""]

    assert [*expected, ">"] == screen(terminal).text
    drawn = Screen()
    for drawing in from_first_prompt(terminal).split(DRAWN)[:-1]:
        *folded, below = drawn.feed(drawing + DRAWN).text[drawn.last("> why") + 1 :]
        assert "" == below
        assert folded == drawn.dimmed[-len(folded) :]
        assert len(folded) in range(1, 5)


def test_a_fold_at_the_bottom_of_a_small_narrow_terminal_stays_in_its_place(thinker: Thinker) -> None:
    thinker.will_say(thinking(0, *(f"{number} and some more words\n" for number in range(30))), text(1, "Blue."))
    with chat(thinker, environment={"COLUMNS": "20", "LINES": "4"}) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("Blue.\n\n> ")
        small = Screen(columns=20, height=4).feed(from_first_prompt(terminal))

    assert ["> why", "Blue.", "", ">"] == [small.text[0], *small.text[-3:]]
    assert ["30 tokens (/thought", "shows it)"] == small.text[2:-3]


def test_a_thought_after_some_text_begins_below_it(thinker: Thinker) -> None:
    thinker.will_say(text(0, "Wait"), thinking(1, "Hm"), text(2, "Blue.\n"), thinking(3, "."), text(4, "Done."))
    with chat(thinker) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("Done.\n\n> ")

    line = SUMMARY.replace("5", "1")
    assert ["> why", "Wait", line, "Blue.", line, "Done.", "", ">"] == screen(terminal).text


@pytest.mark.parametrize("withheld", ["omitted", "redacted"])
def test_a_thought_that_the_server_keeps_to_itself_is_told(thinker: Thinker, withheld: str) -> None:
    blocks = {
        "omitted": thinking(0),
        "redacted": block(0, {"type": "redacted_thinking", "data": "c2VjcmV0"}),
    }
    thinker.will_say(blocks[withheld], text(1, "Blue."))
    with chat(thinker) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("Blue.\n\n> ")
        terminal.press("/thought\n")
        terminal.wait_for("\n\n> ")

    assert [
        "> why",
        WITHHELD,
        "Blue.",
        "",
        "> /thought",
        "The last reply shows no thought.",
        "",
        ">",
    ] == screen(terminal).text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_without_colors_gets_a_plain_line(thinker: Thinker, environment: dict[str, str]) -> None:
    thinker.will_say(thinking(0, "a", "b\n", "c", "d", "e"), text(1, "Blue."))
    with chat(thinker, environment=environment) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        since = terminal.wait_for("Blue.\n\n")

    assert re.fullmatch(
        r"why\n(\x1b\[\?2004l)?\r?thought for \d+\.\d s, ~5 tokens \(/thought shows it\)\nBlue.\n\n", since
    ), repr(since)


def test_a_thought_that_is_to_be_shown_is_neither_folded_nor_replaced(thinker: Thinker) -> None:
    thinker.will_say(thinking(0, "one\n", "two\n", "three\n", "four\n", "five"), text(1, "Blue."))
    with chat(thinker, "--show-thought") as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("Blue.\n\n> ")

    thought = ["one", "two", "three", "four", "five"]
    assert ["> why", *thought, "Blue.", "", ">"] == screen(terminal).text
    assert thought == screen(terminal).dimmed


def test_ctrl_c_stops_a_thought_and_the_conversation_goes_on_without_it(thinker: Thinker) -> None:
    never = threading.Event()
    thinker.will_say(thinking(0, "one\n", "two\n", "three\n", "four\n", "five", never), text(1, "Blue."))
    thinker.will_say(text(0, "Yes."))
    with chat(thinker, "--think", "1024") as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("~5 tokens")
        terminal.wait_for(DRAWN)
        terminal.press("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.press("again\n")
        terminal.wait_for("Yes.\n\n> ")
        never.set()
        terminal.press("\x04")

        assert 0 == terminal.ended()
    assert ["> why", SUMMARY, "", "(stopped)", "", "> again", "Yes.", "", ">"] == screen(terminal).text[:9]
    assert {"role": "user", "content": "again"} == thinker.asked[-1]["messages"][-1]
    assert [] == sent_back(thinker)


def test_a_reply_that_fails_in_its_thought_leaves_one_line_of_it(thinker: Thinker) -> None:
    thinker.will_say(
        thinking(0, "one\n", "two\n", "three\n", "four\n", "five"),
        [{"type": "error", "error": {"type": "api_error", "message": "the engine failed"}}],
    )
    with chat(thinker) as terminal:
        terminal.wait_for("> ")
        terminal.press("why\n")
        terminal.wait_for("failed\x1b[0m\n\n> ")

    assert ["> why", SUMMARY, "sestet: the reply failed: the engine failed", "", ">"] == screen(terminal).text


def test_thinking_is_changed_within_a_conversation(thinker: Thinker) -> None:
    usage = "/think takes a number of tokens, at least 1,024, or off, or auto."
    said = {
        "/think 2048": "Thinks with up to 2,048 tokens before each reply.",
        "/think off": "Replies come without a thought.",
        "/think auto": "Whether it thinks is left to the server.",
    }
    with chat(thinker, "--effort", "low", "--max-tokens", "100", environment={"COLUMNS": "100"}) as terminal:
        terminal.wait_for("> ")
        for command, answer in said.items():
            terminal.press(f"{command}\n")
            terminal.wait_for(f"{answer}\x1b[0m\n\n> ")
            thinker.will_say(text(0, "Yes."))
            terminal.press("well\n")
            terminal.wait_for("Yes.\n\n> ")
        for command in ("/think", "/think 1023", "/think -5", "/think hard about it", f"/think {'9' * 20}"):
            terminal.press(f"{command}\n")
            terminal.wait_for(usage)
            terminal.wait_for("> ")

    assert [
        (2148, {"type": "enabled", "budget_tokens": 2048}),
        (100, {"type": "disabled"}),
        (100, None),
    ] == [(asked["max_tokens"], asked.get("thinking")) for asked in thinker.asked]


# With a Sestet

SCRIPT = """
[[reply]]
when = "endless thought"
think = ["hm "]
think_repeat = 1000
tokens_per_s = 50
[[reply]]
when = "endless answer"
think = ["Let", " me", " see."]
say = ["tick "]
repeat = 1000
tokens_per_s = 50
[[reply]]
think = ["Let", " me", " see."]
say = ["It", " is", " blue."]
"""


@pytest.fixture(scope="module")
def sestet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = start_server(tmp_path_factory.mktemp("thinking"), script=SCRIPT)
    yield server
    server.stop()


def cut(conversation: Conversation, question: str, at: str | Thought) -> None:
    """Stop the reply there. Which white space comes with which piece is the server's business."""
    with closing(conversation.say(question)) as reply:
        pieces = (Thought(piece.text.strip()) if isinstance(piece, Thought) else piece.strip() for piece in reply)
        assert at == next(piece for piece in pieces if piece == at)


def test_a_sestet_takes_back_whole_turns_and_those_that_were_cut(sestet: RunningServer) -> None:
    with Conversation(sestet.url, None, None, 100) as one:
        one.choose("claude-3-7-sonnet-latest")
        one.thinking = 2048

        assert "It is blue." == answer(one, "why")
        assert "Let me see." == one.thought
        assert 0 < one.last.thinking < one.last.output
        cut(one, "endless thought", Thought("hm"))
        assert "It is blue." == answer(one, "why")  # with that turn before it, the thought would go on
        cut(one, "endless answer", "tick")
        cut(one, "and now", "tick")  # this turn is before it

    wait_until_nothing_runs(sestet)


def test_ctrl_c_stops_a_thought_and_its_engine(sestet: RunningServer) -> None:
    with Terminal("chat", "--url", sestet.url, environment={"TERM": "xterm", "NO_COLOR": ""}) as terminal:
        terminal.wait_for("> ")
        terminal.press("/think 1024\n")
        terminal.wait_for("\n\n> ")
        terminal.press("endless thought\n")
        terminal.wait_for("hm hm")
        terminal.press("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        wait_until_nothing_runs(sestet)
        terminal.press("why\n")
        terminal.wait_for("It is blue.\n\n> ")
        terminal.press("/think off\n")
        terminal.wait_for("\n\n> ")
        terminal.press("why\n")
        since = terminal.wait_for("It is blue.\n\n> ")

    assert "thought for" not in since


def test_a_model_that_does_not_think_says_so(run: Run, sestet: RunningServer) -> None:
    line = refusal(
        run("chat", "--url", sestet.url, "--model", "claude-3-haiku-20240307", "--think", "1024", stdin="hi")
    )

    assert line.startswith("thinking.type: ")
