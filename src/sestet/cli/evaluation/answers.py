"""Which part of a reply counts as its answer: one part, by one rule, the same in every mode.

The rule knows of what kind the right answer is (a number, a word, ...), never what it is.
"""

import re
from typing import Final, Literal

Kind = Literal["integer", "decimal", "word", "list", "lines", "line"]

INSTRUCTION: Final = "Give the final answer alone, between <answer> and </answer>."

_TAGGED: Final = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_NUMBER: Final = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_LIST: Final = re.compile(r"\[[^\[\]]*\]")
_LABEL: Final = re.compile(r"(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:|=)\s*:?\s*", re.IGNORECASE)


def kind_of(expected: str) -> Kind:
    """Of what kind the right answer of a task is."""
    text = expected.strip()
    if re.fullmatch(r"[+-]?\d+", text):
        return "integer"
    if re.fullmatch(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?", text):
        return "decimal"
    if _WORD.fullmatch(text):
        return "word"
    if _LIST.fullmatch(text):
        return "list"
    return "lines" if "\n" in text else "line"


def extract(reply: str, kind: Kind) -> str:
    """The answer in a reply; empty where there is none.

    What counts is what stands in the last `<answer>`, or the whole reply where there is no such tag. Of that, for a
    bare number or word the last one; for a list the last one in brackets; else, without a tag, the last line.
    """
    tagged = _TAGGED.findall(reply)
    region = (tagged[-1] if tagged else reply).strip()
    match kind:
        case "integer" | "decimal":
            numbers = _NUMBER.findall(region.replace("\u2212", "-"))
            number = numbers[-1].replace(",", "") if numbers else ""
            return re.sub(r"\.0+$", "", number) if kind == "integer" else number
        case "word":
            words = _WORD.findall(region)
            return words[-1] if words else ""
        case "list":
            lists = _LIST.findall(region)
            return lists[-1] if lists else _last_line(region)
        case "lines":
            return region
        case "line":
            return region if tagged else _last_line(region)


def _last_line(text: str) -> str:
    """Without the emphasis and the label that models like to give it."""
    lines = [line.strip().strip("*_`").strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    labelled = _LABEL.match(last)
    return last[labelled.end() :].strip("*_` ") if labelled else last
