"""The tiers of service (WIRE.md section 3, `usage.service_tier`), in the order in which they are served."""

from typing import Final, Literal, get_args

Tier = Literal["priority", "standard", "batch"]

TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
