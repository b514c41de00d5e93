"""Who can reach this server, and whether that is safe without keys."""

import ipaddress

from sestet.config import Config, ConfigError
from sestet.gate.keys import Keyring


def check_exposure(config: Config, keyring: Keyring) -> None:
    """Without keys only this machine may reach us (RELIABILITY.md T12)."""
    if not keyring.is_open or is_loopback(config.server.host):
        return
    raise ConfigError(
        f"refusing to listen on {config.server.host} without API keys: anyone who can reach it could use it. "
        "Make an admin key with `sestet keys bootstrap`, set access.keys in sestet.toml (or SESTET_ACCESS_KEYS), "
        "or listen on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
