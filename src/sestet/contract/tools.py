"""How a family of weights writes a call of a tool, and reads what a tool answered. Data for profiles."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolSyntax:
    """A call is `begin`, `before_name`, NAME, `before_input`, JSON, `after_input`; `between` stands between two.

    `begin` stands in no text outside a call. `instruction` tells the weights of the tools, one JSON object a line, in
    place of `{tools}`. `result` is how an answer is given to them, with `{content}` in it. `shown` are control tokens
    that these texts are made of.
    """

    instruction: str
    begin: str
    before_name: str
    before_input: str
    after_input: str
    between: str
    result: str
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.begin
        assert "{tools}" in self.instruction
        assert "{content}" in self.result
