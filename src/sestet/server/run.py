"""Runs the server: the address first, then the engines, then uvicorn; and ends it without losing a reply."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop

from sestet.config import Config, ConfigError
from sestet.server.compose import Application, Plan, build
from sestet.server.protocol import GuardedProtocol

BACKLOG = 2048
KEEP_ALIVE_S = 75


def listen(config: Config) -> socket.socket:
    """The listening address, taken before anything slow begins; `ConfigError` says what to do when it is not free."""
    host, port = config.server.host, config.server.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ConfigError(f"server.host: `{host}` is no address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            f"another program may have it: choose another port (make serve PORT={port + 1 if port else 8001})"
        ) from None
    return listener


def serve(config: Config, on_load: Callable[[Plan], None], on_ready: Callable[[Application, str], None]) -> None:
    """Serves until SIGTERM or SIGINT. `on_ready` is told the application and its URL."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, on_load, on_ready))


async def _serve(
    config: Config,
    on_load: Callable[[Plan], None],
    on_ready: Callable[[Application, str], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listeners: list[socket.socket] = []
    loading = asyncio.ensure_future(build(config, on_load, lambda: listeners.append(listen(config))))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        return
    application = await loading
    (listener,) = listeners
    application.books.warm()
    server = _Server(
        uvicorn.Config(
            application.asgi,
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    heart = asyncio.create_task(application.heart.run())
    upkeep = asyncio.create_task(application.upkeep.run())
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.listening.wait()
        # What is loaded by now stays: the collector need not look at it again with every generation of requests.
        gc.collect()
        gc.freeze()
        on_ready(application, _url(config, listener))
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(application, config.server.drain_s, loop)
    finally:
        server.should_exit = True
        server.force_exit = True
        heart.cancel()
        upkeep.cancel()
        await asyncio.gather(running, heart, upkeep, return_exceptions=True)
        await application.stop()


async def _drain(application: Application, drain_s: float, loop: asyncio.AbstractEventLoop) -> None:
    """The address stays open and answers 529 while running replies end; a second signal ends them at once."""
    now = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, now.set)
    draining = asyncio.ensure_future(application.lifecycle.drain(drain_s))
    impatient = asyncio.ensure_future(now.wait())
    await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
    for task in (draining, impatient):
        task.cancel()
    await asyncio.gather(draining, impatient, return_exceptions=True)
    await application.lifecycle.end()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (ours drain first), and telling when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Any:
        yield


def _url(config: Config, listener: socket.socket) -> str:
    host = config.server.host
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
