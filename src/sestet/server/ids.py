"""Ids of requests and replies: 128 random bits behind the contract's prefixes."""

import secrets


def request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def message_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


def tool_use_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"
