"""`sestet chat`: a conversation in the terminal, or one question from a pipe."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sestet.cli.conversation import THOUGHT_TOKENS_MIN, Conversation, Effort, ModelEntry, Thought, Tokens
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line, printable
from sestet.cli.thoughts import Thoughts

with contextlib.suppress(ImportError):  # some Pythons are built without it; it gives `input` editing and history
    import readline  # noqa: F401

HELP = (
    "/new starts over, /usage shows tokens, /exit leaves, Ctrl-C stops a reply.\n"
    "/think N allows a thought of N tokens, /think off none, /thought shows the last."
)

_console = Console(stderr=True, highlight=False)


def chat(  # noqa: PLR0913 - one for each option
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="Model to talk to; by default the first one the server lists.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")] = 1024,
    think: Annotated[
        int | None,
        typer.Option(min=THOUGHT_TOKENS_MIN, help="Think first, with up to so many tokens beside --max-tokens."),
    ] = None,
    effort: Annotated[
        Effort | None, typer.Option(help="Let the model decide how much it thinks; --max-tokens bounds that too.")
    ] = None,
    show_thought: Annotated[
        bool, typer.Option("--show-thought", help="Write thoughts to standard error, whole.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(envvar="ANTHROPIC_API_KEY", help="API key, where the server asks for one.", show_default=False),
    ] = None,
) -> None:
    """Talk to a running server. Replies come as they are generated.

    In a pipe (`echo hi | sestet chat`) the input is one question and the output its answer alone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a reply may have characters this terminal has not
    if think is not None and effort is not None:
        raise Failure("--think sets a budget and --effort leaves it to the model; give one of them")
    with Conversation(url, key, system, max_tokens) as conversation:
        conversation.thinking = think if think is not None else effort
        if not sys.stdin.isatty():
            _answer_one(conversation, model, show_thought)
            return
        _introduce(conversation.choose(model), conversation.model, url)
        try:
            for text in _lines():
                _turn(conversation, text, show_thought)
        except EOFError:
            _console.print()


def _answer_one(conversation: Conversation, model: str | None, show_thought: bool) -> None:
    question = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not question.strip():
        raise Failure("there is no question on the standard input: echo 'Why is the sky blue?' | sestet chat")
    conversation.choose(model)
    _print(conversation.say(question), Thoughts(_console, whole=show_thought, shown_by="--show-thought"))
    _remark_on_end(conversation)


def _introduce(entry: ModelEntry, asked: str, url: str) -> None:
    _console.print(f"Talking to {one_line(asked)} at {one_line(url)}.", markup=False, soft_wrap=True)
    if entry.stand_in:
        _console.print(f"It is a stand-in: {one_line(entry.served_by or '')} answers.", markup=False, soft_wrap=True)
    elif entry.alias_of or entry.id != asked:
        _console.print(f"{one_line(entry.alias_of or entry.id)} answers.", markup=False, soft_wrap=True)
    _console.print(f"{HELP}\n", style="dim", markup=False)


def _lines() -> Iterator[str]:
    """What the user types, until `EOFError`. Ctrl-C drops the line."""
    prompt = "> "
    while True:
        if not sys.stdout.isatty():
            _console.print(prompt, end="")
        try:
            yield input(prompt if sys.stdout.isatty() else "")
        except KeyboardInterrupt:
            _console.print("\n(/exit or Ctrl-D leaves)", style="dim")


def _turn(conversation: Conversation, text: str, show_thought: bool) -> None:
    match text.split():
        case []:
            return
        case ["/exit" | "/quit"]:
            raise EOFError
        case ["/new"]:
            conversation.forget()
            _console.print("A new conversation.\n", style="dim")
        case ["/usage"]:
            last, total = conversation.last, conversation.total
            _console.print(
                f"Last reply: {last.input:,} tokens in, {_output(last)}. "
                f"Since the start: {total.input:,} in, {_output(total)}.\n",
                style="dim",
            )
        case ["/thought"]:
            thought = printable(conversation.thought).strip("\n") or "The last reply shows no thought."
            _console.print(Text(f"{thought}\n", style="dim"), soft_wrap=True)
        case ["/think", *words]:
            _console.print(f"{_think(conversation, words)}\n", style="dim", markup=False)
        case [command] if command.startswith("/") and command[1:].isalpha():
            _console.print(f"{HELP}\n", style="dim", markup=False)
        case _:
            _ask(conversation, text, show_thought)


def _output(tokens: Tokens) -> str:
    return f"{tokens.output:,} out" + (f" ({tokens.thinking:,} of them thinking)" if tokens.thinking else "")


def _think(conversation: Conversation, words: list[str]) -> str:
    """Change how the next replies think, and say so."""
    match words:
        case ["off"]:
            conversation.thinking = "off"
            return "Replies come without a thought."
        case ["auto"]:
            conversation.thinking = None
            return "Whether it thinks is left to the server."
        case [number] if number.isdecimal() and len(number) < 10 and int(number) >= THOUGHT_TOKENS_MIN:
            conversation.thinking = int(number)
            return f"Thinks with up to {int(number):,} tokens before each reply."
    return f"/think takes a number of tokens, at least {THOUGHT_TOKENS_MIN:,}, or off, or auto."


def _ask(conversation: Conversation, text: str, show_thought: bool) -> None:
    with contextlib.closing(conversation.say(text)) as reply:
        try:
            _print(reply, Thoughts(_console, whole=show_thought, shown_by="/thought"))
            _remark_on_end(conversation)
        except KeyboardInterrupt:
            _console.print("\n(stopped)", style="dim")
        except Failure as failure:
            _console.print(f"sestet: {failure}", style="red", markup=False, soft_wrap=True)
    _console.print()


def _print(reply: Iterator[str | Thought], thoughts: Thoughts) -> None:
    """As it comes. What follows it begins on a line of its own."""
    said = ""
    try:
        for piece in reply:
            if isinstance(piece, Thought):
                thoughts.add(printable(piece.text), in_a_line=said[-1:] not in ("", "\n"))
                continue
            thoughts.end()
            said = printable(piece) or said
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
    finally:
        thoughts.end()
    sys.stdout.write("" if said.endswith("\n") else "\n")
    sys.stdout.flush()


def _remark_on_end(conversation: Conversation) -> None:
    if conversation.stop_reason == "max_tokens":
        _console.print("(cut at --max-tokens)", style="dim")
    elif conversation.stop_reason == "model_context_window_exceeded":
        _console.print("(the model's window is full; /new starts over)", style="dim")
