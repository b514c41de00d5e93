"""Serves an application from a process of `bench.processes.Peer`: says its port, and ends with its standard input."""

import json
import os
import socket
import sys
import threading
from typing import Any

import uvicorn

from sestet.server.run import BACKLOG, KEEP_ALIVE_S


def serve(application: Any, protocol: Any) -> None:
    """With the settings that the product serves with, and this HTTP protocol class."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    print(json.dumps({"result": {"port": listener.getsockname()[1]}}), flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)
