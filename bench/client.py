"""The client of every benchmark, in a process of its own, so that both sides bear the same cost of it.

Raw sockets on uvloop. An order is one JSON line on standard input: `ask` (bench/asking.py), `load`
(bench/loading.py) or `paced` (bench/pacing.py).
"""

import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop

from bench.asking import ask
from bench.loading import load
from bench.pacing import paced

_KINDS: Mapping[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {"ask": ask, "load": load, "paced": paced}


def main() -> None:
    # A stream of our own, because an interpreter told not to buffer its standard output cuts long lines short.
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        result = uvloop.run(_KINDS[order.pop("kind")](**order))
        print(json.dumps({"result": result}), file=answers, flush=True)


if __name__ == "__main__":
    main()
