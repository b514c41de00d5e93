"""Ids of requests and replies: 128 random bits behind the contract's prefixes."""

import secrets


def request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def message_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


def tool_use_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"


def server_id() -> str:
    return f"server_{secrets.token_hex(8)}"


def key_id() -> str:
    return f"apikey_{secrets.token_hex(12)}"


def workspace_id() -> str:
    return f"wrkspc_{secrets.token_hex(12)}"


def spend_limit_id() -> str:
    return f"spl_{secrets.token_hex(12)}"
