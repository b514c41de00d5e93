"""Calls of tools as text: how they are asked for, written, and told apart from the text around them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from sestet.contract.caching import Lifetime
from sestet.contract.deltas import Text, ToolCall, ToolInput
from sestet.contract.errors import ApiError
from sestet.contract.tools import ToolSyntax
from sestet.turn.stops import StopMatcher


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it: `schema` is what its input must satisfy; the request has it at `path`."""

    name: str
    description: str
    schema: Mapping[str, Any]
    strict: bool
    examples: tuple[Mapping[str, Any], ...]
    path: str
    lifetime: Lifetime | None = None  # of the cache breakpoint at this tool


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """The tools that the model is told of. `choice`: text or calls, at least one call, or no call; of those in
    `callable_names`."""

    tools: tuple[ToolSpec, ...]
    choice: Literal["auto", "any", "none"]
    callable_names: tuple[str, ...]
    parallel: bool

    @property
    def callable_tools(self) -> tuple[ToolSpec, ...]:
        names = frozenset(self.callable_names)
        return tuple(tool for tool in self.tools if tool.name in names)


def described(tool: ToolSpec) -> str:
    """One line of JSON that tells the model of a tool."""
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    if tool.examples:
        function["examples"] = tool.examples
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


class CallSplitter:
    """Tells calls from text in a model's words, however they are cut. Feed it until the reply ends.

    The grammar has made sure of the form (turn/grammar.py); what has another form is an engine's fault. Where the text
    has a schema (`beside_value`), a reply is a value or calls: a marker within the value is part of it.
    """

    def __init__(self, syntax: ToolSyntax, plan: ToolPlan, *, beside_value: bool = False) -> None:
        self.calls = 0
        self.inside = False
        self._syntax = syntax
        self._names = frozenset(plan.callable_names)
        self._forced = plan.choice == "any"
        self._calls_max = None if plan.parallel else 1
        self._begin = StopMatcher((syntax.begin,))
        self._first: str | None = "" if beside_value else None
        self._head = ""
        self._input: _JsonObject | None = None
        self._tail = ""

    def feed(self, text: str, output_tokens: int) -> Iterator[Text | ToolCall | ToolInput]:
        if self._first is not None:
            text = self._decide(self._first + text)
        while text:
            if not self.inside:
                released = self._begin.feed(text)
                yield from self._outside(released.text, output_tokens)
                self.inside, text = released.stop_sequence is not None, released.rest
            elif self._input is None:
                self._head += text
                name, found, text = self._head.removeprefix(self._syntax.before_name).partition(
                    self._syntax.before_input
                )
                if not found:
                    self._check(len(self._head) < _HEAD_MAX)
                    return
                self._check(self._head.startswith(self._syntax.before_name) and name in self._names)
                self._check(self._calls_max is None or self.calls < self._calls_max)
                self._head, self._input = "", _JsonObject()
                yield ToolCall(name, output_tokens)
            elif not self._input.ended:
                taken = self._input.take(text)
                yield ToolInput(text[:taken], output_tokens)
                text = text[taken:]
            else:
                self._tail += text
                after = self._syntax.after_input
                if len(self._tail) < len(after):
                    self._check(after.startswith(self._tail))
                    return
                self._check(self._tail.startswith(after))
                text = self._tail[len(after) :]
                self._end_call()
        if self._input is not None and self._input.ended and not self._syntax.after_input:
            self._end_call()

    def flush(self, output_tokens: int) -> Iterator[Text]:
        """What was held back, once no more text comes. Half a marker of a call that had to come is nobody's text."""
        yield from self._outside((self._first or "") + self._begin.flush(), output_tokens)

    def end(self) -> None:
        """The model ended its turn: is the reply what it had to be?"""
        self._check(not self.inside and (self.calls > 0 or not self._forced))

    def _decide(self, text: str) -> str:
        """Whether a reply that is a value or calls is a value; nothing to go on with while that is open."""
        begin = self._syntax.begin
        if len(text) < len(begin) and begin.startswith(text):
            self._first = text
            return ""
        self._first = None
        if not text.startswith(begin):
            self._begin = StopMatcher(())
        return text

    def _end_call(self) -> None:
        self._check(self._input is not None and self._input.is_object())
        self.calls += 1
        self.inside, self._input, self._tail = False, None, ""

    def _outside(self, text: str, output_tokens: int) -> Iterator[Text]:
        """After a call there is only what stands between it and the next, which is nobody's text."""
        if text and not self.calls and not self._forced:
            yield Text(text, output_tokens)

    def _check(self, holds: bool) -> None:
        if not holds:
            raise ApiError("api_error", "the model's call of a tool cannot be read")


_HEAD_MAX = 1_000
_CLOSED_DEPTH_MAX = 256  # readers of JSON have their limits


def is_json(text: str) -> bool:
    """Whether it is one JSON value, with numbers of any size."""
    try:
        _DECODER.decode(text)
    except ValueError:
        return False
    except RecursionError:  # deeper than the decoder goes: then it is enough that it is balanced
        found = _JsonObject()
        return found.take(text) == len(text) and found.ended
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)


class _JsonObject:
    """Finds the end of a JSON object in text that comes in pieces, and how to close one that was cut."""

    def __init__(self) -> None:
        self.ended = False
        self._text: list[str] = []
        self._closers: list[str] = []
        self._in_string = False
        self._escaped = False
        self._is_value = False
        self._size = 0
        self._sound = (0, "")  # how much of the text is whole, and what closes it there

    def take(self, text: str) -> int:
        """How many characters of this text belong to the object."""
        end = self._end(text)
        self._text.append(text[:end])
        self._size += end
        return end

    def is_object(self) -> bool:
        text = "".join(self._text)
        return text.lstrip().startswith("{") and is_json(text)

    def closed(self) -> str:
        """The object, without what was only begun."""
        if self.ended:
            return "".join(self._text)
        size, closers = self._sound
        return "".join(self._text)[:size] + closers or "{}"

    def _end(self, text: str) -> int:
        for position, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
                if not self._in_string and self._is_value:
                    self._mark(position + 1)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._closers.append("}" if character == "{" else "]")
                self._is_value = character == "["
                self._mark(position + 1)
            elif character in "}]" and self._closers:
                self._closers.pop()
                self._mark(position + 1)
                if not self._closers:
                    self.ended = True
                    return position + 1
            elif character == ",":
                self._mark(position)
                self._is_value = self._closers[-1:] == ["]"]
            elif character == ":":
                self._is_value = True
        return len(text)

    def _mark(self, position: int) -> None:
        if len(self._closers) <= _CLOSED_DEPTH_MAX:
            self._sound = (self._size + position, "".join(reversed(self._closers)))


def whole_object(text: str) -> str:
    """The input of a call as JSON; of one that was cut, what there is of it."""
    found = _JsonObject()
    found.take(text)
    return found.closed()
