"""Seals, checkers and styles for tests that need some and do not care which."""

from sestet.contract.thinking import ThinkingTags
from sestet.contract.tools import ToolSyntax
from sestet.turn.render import Style
from sestet.turn.seals import Owner, Seals
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtChecker, ThoughtPolicy

SEALS = Seals([b"a secret of thirty-two bytes ....", b"an older secret, retired long ago."])
OWNER = Owner("card-1", "default")
TAGS = ThinkingTags(open="<think>\n", close="</think>", closing="\n</think>\n\n")
TOOLS = ToolSyntax(
    instruction="Tools:\n{tools}",
    begin="<tool_call>",
    before_name='\n{"name": "',
    before_input='", "arguments": ',
    after_input="}\n</tool_call>",
    between="\n",
    result="<tool_response>\n{content}\n</tool_response>",
)
THINKING_STYLE = ThinkingStyle(TAGS, opening="<think>\n", skipping="")
STYLE = Style(THINKING_STYLE, TOOLS)


def checker(policy: ThoughtPolicy | None = None) -> ThoughtChecker:
    return ThoughtChecker(SEALS, OWNER, policy or ThoughtPolicy())
