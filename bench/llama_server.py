"""llama.cpp's own HTTP server with its own `/v1/messages`: the weights, threads and settings of Sestet's engine.

A process of `bench.processes.Peer`: told slots and window in one line, it answers with its port and serves.
"""

import json
import os
import sys
from typing import Any

import xllamacpp

from sestet.engines.llamacpp import child
from sestet.engines.llamacpp.embedded import embedded_weights
from sestet.engines.llamacpp.process import Order


def main() -> None:
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    # llama.cpp may print; answers must stay alone on standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = Order(
        model=str(embedded_weights()),
        socket="127.0.0.1",
        secret="",
        parent_pid=os.getppid(),
        window=asked["window"],
        slots=asked["slots"],
        threads=0,
        snapshots=None,
    )
    parameters = child._parameters(order, order.window, order.slots)  # the same function, so the same settings
    parameters.api_keys = []
    parameters.cache_ram_mib = asked.get("cache_ram_mib", parameters.cache_ram_mib)
    server = xllamacpp.Server(parameters)
    port = int(server.listening_address.rpartition(":")[2])
    print(json.dumps({"result": {"port": port}}), file=answers, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
