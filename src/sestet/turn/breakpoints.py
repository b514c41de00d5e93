"""Where a request asks for its prompt to be cached, and the rules for that (WIRE.md section 2.8)."""

from collections.abc import Iterator, Sequence

from sestet.contract.caching import BREAKPOINTS_MAX, Lifetime
from sestet.contract.errors import invalid
from sestet.contract.requests import CacheControl, InputBlock, PromptRequest, RedactedThinkingBlock, ThinkingBlock


def check_breakpoints(request: PromptRequest) -> Lifetime | None:
    """Refuses breakpoints that break a rule. What comes back is the lifetime of the automatic one, which belongs to
    the last block; None where there is none, or where that block has its own already."""
    given = list(_given(request))
    automatic = request.cache_control
    if automatic is not None:
        own = _control_of_last_block(request)
        if own is None:
            given.append(("cache_control", automatic))
        elif own.lifetime != automatic.lifetime:
            raise invalid(
                f"the last block has a `cache_control` with another ttl ({own.lifetime}) than this one "
                f"({automatic.lifetime}); give both the same, or leave one out",
                "cache_control",
            )
        else:
            automatic = None
    if len(given) > BREAKPOINTS_MAX:
        raise invalid(
            f"A maximum of {BREAKPOINTS_MAX} blocks with cache_control may be provided. Found {len(given)}.",
            given[BREAKPOINTS_MAX][0],
        )
    shorter: str | None = None
    for path, control in given:
        if control.lifetime == "5m":
            shorter = path
        elif shorter is not None:
            raise invalid(
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks "
                f"are processed in the order `tools`, `system`, `messages`; one with '5m' is at {shorter}",
                f"{path}.ttl" if path == "cache_control" else f"{path}.cache_control.ttl",
            )
    return automatic.lifetime if automatic is not None else None


def _given(request: PromptRequest) -> Iterator[tuple[str, CacheControl]]:
    """Every breakpoint with the path of its block, in the order in which a prompt is cached."""
    for position, tool in enumerate(request.tools or ()):
        if tool.cache_control is not None:
            yield f"tools.{position}", tool.cache_control
    if request.system is not None and not isinstance(request.system, str):
        yield from _of_blocks(request.system, "system")
    for position, message in enumerate(request.messages):
        if not isinstance(message.content, str):
            yield from _of_blocks(message.content, f"messages.{position}.content")


def _of_blocks(blocks: Sequence[InputBlock], path: str) -> Iterator[tuple[str, CacheControl]]:
    for at, block in enumerate(blocks):
        if block.type == "tool_result" and block.content is not None and not isinstance(block.content, str):
            yield from _of_blocks(block.content, f"{path}.{at}.content")
        control = control_of(block)
        if control is not None:
            yield f"{path}.{at}", control


def control_of(block: InputBlock) -> CacheControl | None:
    """The block's own breakpoint. Thoughts have none."""
    return None if isinstance(block, ThinkingBlock | RedactedThinkingBlock) else block.cache_control


def lifetime_of(control: CacheControl | None) -> Lifetime | None:
    return None if control is None else control.lifetime


def _control_of_last_block(request: PromptRequest) -> CacheControl | None:
    content = request.messages[-1].content
    return None if isinstance(content, str) or not content else control_of(content[-1])
