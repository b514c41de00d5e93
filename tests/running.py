"""Real `sestet serve` processes for tests: started on a free port, watched, stopped, their log kept."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
import psutil

from sestet.store.database import open_database

START_TIMEOUT_S = 60.0


@dataclass
class RunningServer:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    port: int
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    @property
    def engine(self) -> psutil.Process:
        """The process of its one llama.cpp."""
        (engine,) = [one for one in psutil.Process(self.pid).children() if "llamacpp" in " ".join(one.cmdline())]
        return engine

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def give_database(place: Path) -> None:
    """A store with its schema made, so that not every server of a test makes it anew."""
    if not place.exists():
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.write_bytes(_empty_store())
        place.chmod(0o600)


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/sestet.db")
        database.upgrade()
        database.close()
        return Path(folder, "sestet.db").read_bytes()


def start_server(
    folder: Path,
    *,
    script: str | None = None,
    config: str = "",
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> RunningServer:
    """`sestet serve` that answers. `script` is the scripted engine's TOML; without one the embedded model serves.

    `config` is the text of sestet.toml. A server that does not come up fails the test with its log.
    """
    port = free_port()
    config_path = folder / f"sestet-{port}.toml"
    config_path.write_text(config)
    command = [sys.executable, "-m", "sestet.cli.main", "serve", "--config", str(config_path), "--port", str(port)]
    if script is not None:
        script_path = folder / f"script-{port}.toml"
        script_path.write_text(script)
        command += ["--engine", "scripted", "--script", str(script_path)]
    give_database(folder / "sestet" / "sestet.db")
    log_path = folder / f"server-{port}.log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESTET_")}
    clean["XDG_DATA_HOME"] = str(folder)  # the signing keys of a test are not the user's
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**clean, **(environment or {})},
        )
    server = RunningServer(process, f"http://127.0.0.1:{port}", port, log_path)
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with status {process.returncode}:\n{server.log}")
        try:
            if httpx2.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return server
        except httpx2.TransportError:
            time.sleep(0.05)
    server.stop()
    raise AssertionError(f"the server did not come up:\n{server.log}")
