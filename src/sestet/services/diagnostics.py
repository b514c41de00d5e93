"""Why the prompt cache could not reuse what an earlier request had: prompts of clients that ask, as fingerprints."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sestet.cache.prefixes import Prefix
from sestet.contract.caching import CacheMiss, Level

REMEMBERED_BLOCKS: Final = 500_000  # of all prompts together; about 100 bytes each


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A prompt of one workspace, its text nowhere in it. `prefixes` have keys that do not depend on the model."""

    workspace: str
    model: str
    settings: str
    prefixes: Sequence[Prefix]

    @property
    def cached(self) -> int:
        """What a later request could have read: up to the last breakpoint, or all blocks where there is none."""
        marked = [one.tokens for one in self.prefixes if one.lifetime is not None]
        return (marked or [one.tokens for one in self.prefixes] or [0])[-1]

    def keys(self, level: Level) -> list[bytes]:
        return [one.key for one in self.prefixes if one.level == level]


class Fingerprints:
    """The latest, by the id of the reply. Another workspace's are as good as none."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Fingerprint] = OrderedDict()
        self._blocks = 0

    def remember(self, message_id: str, fingerprint: Fingerprint) -> None:
        self._kept[message_id] = fingerprint
        self._blocks += len(fingerprint.prefixes)
        while self._blocks > REMEMBERED_BLOCKS:
            _, oldest = self._kept.popitem(last=False)
            self._blocks -= len(oldest.prefixes)

    def compare(self, previous_id: str, now: Fingerprint) -> CacheMiss | None:
        """Nothing where the earlier prompt is the beginning of this one."""
        before = self._kept.get(previous_id)
        if before is None or before.workspace != now.workspace:
            return CacheMiss("previous_message_not_found")
        if before.model != now.model:
            return CacheMiss("model_changed", before.cached)
        common = 0
        for one, other in zip(before.prefixes, now.prefixes, strict=False):
            if one.key != other.key:
                break
            common = one.tokens
        missed = max(0, before.cached - common)
        if before.keys("tools") != now.keys("tools"):
            return CacheMiss("tools_changed", missed)
        if before.keys("system") != now.keys("system"):
            return CacheMiss("system_changed", missed)
        if before.settings != now.settings:
            return CacheMiss("unavailable")
        earlier = before.keys("messages")
        return None if now.keys("messages")[: len(earlier)] == earlier else CacheMiss("messages_changed", missed)
