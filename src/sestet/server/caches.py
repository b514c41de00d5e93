"""Prompt caches from the configuration: a folder for each set of weights, before its engine starts."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial

import structlog

from sestet.config import Config, ConfigError, default_cache
from sestet.server.metrics import Metrics
from sestet.services.caching import PromptCache
from sestet.services.ports import Engine
from sestet.services.shelf import Shelf
from sestet.store.snapshots import SnapshotError, SnapshotFolder

_GIB = 2**30


def open_folder(config: Config, weights_id: str) -> SnapshotFolder | None:
    """Where snapshots of these weights are kept; None where none are. `ConfigError` for a folder that the operator
    named and that cannot be used; without one of its own, a server that can keep none does without."""
    if config.cache.disk == 0:
        return None
    base = config.cache.folder or default_cache()
    try:
        return SnapshotFolder.open(base / hashlib.sha256(weights_id.encode()).hexdigest()[:12])
    except SnapshotError as error:
        if config.cache.folder is not None:
            raise ConfigError(f"cache.folder: {error}") from None
        structlog.get_logger("sestet").warning("prompts_not_cached", reason=str(error))
        return None


async def start_cache(
    config: Config, folder: SnapshotFolder | None, weights_id: str, engine: Engine, metrics: Metrics
) -> PromptCache | None:
    """The cache of a running engine, with what earlier servers left. None where there is no folder, or the engine
    writes no snapshots."""
    if folder is None or not engine.snapshot_bytes_per_token:
        return None
    # All weights share what the operator allows; one that needs little leaves the others no more.
    budget = int(config.cache.disk * _GIB) // max(1, len(config.weights))
    shelf = Shelf(folder, engine.identity, budget, partial(_tell, metrics, weights_id))
    cache = PromptCache(shelf, engine.snapshot_bytes_per_token)
    await cache.start()
    return cache


def volatile_lines(config: Config) -> tuple[re.Pattern[str], ...]:
    found = []
    for position, line in enumerate(config.cache.volatile_lines):
        try:
            found.append(re.compile(line))
        except re.error as error:
            raise ConfigError(f"cache.volatile_lines.{position}: it is no regular expression: {error}") from None
    return tuple(found)


def _tell(metrics: Metrics, weights_id: str, event: str, facts: Mapping[str, object]) -> None:
    metrics.engine_event(event, {"weights": weights_id, **facts})
