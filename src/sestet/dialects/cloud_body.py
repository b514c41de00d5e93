"""The body of a message as the clouds take it: the contract's, with its version inside and its model in the path."""

from collections.abc import Mapping
from typing import Any

from sestet.contract.errors import invalid
from sestet.contract.versions import ApiVersion
from sestet.dialects.json_body import read_object


def read_body(
    body: bytes, versions: Mapping[str, ApiVersion], elsewhere: tuple[str, ...]
) -> tuple[dict[str, Any], ApiVersion]:
    """The body's fields without `anthropic_version`, and the version that it names. `elsewhere` are fields of the
    contract's body that this cloud's path tells; here they are unknown."""
    fields = read_object(body)
    if "anthropic_version" not in fields:
        raise invalid("Field required", "anthropic_version")
    named = fields.pop("anthropic_version")
    version = versions.get(named) if isinstance(named, str) else None
    if version is None:
        raise invalid(f"Input should be one of {', '.join(versions)}", "anthropic_version")
    for name in elsewhere:
        if name in fields:
            raise invalid("Extra inputs are not permitted; the path says it", name)
    return fields, version
