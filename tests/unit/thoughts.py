"""Seals, checkers and styles for tests that need some and do not care which."""

from sestet.contract.thinking import ThinkingTags
from sestet.turn.seals import Owner, Seals
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtChecker, ThoughtPolicy

SEALS = Seals([b"a secret of thirty-two bytes ....", b"an older secret, retired long ago."])
OWNER = Owner("card-1", "default")
TAGS = ThinkingTags(open="<think>\n", close="</think>", closing="\n</think>\n\n")
STYLE = ThinkingStyle(TAGS, opening="<think>\n", skipping="")


def checker(policy: ThoughtPolicy | None = None) -> ThoughtChecker:
    return ThoughtChecker(SEALS, OWNER, policy or ThoughtPolicy())
