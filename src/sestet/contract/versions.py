"""API versions (WIRE.md section 0) and the beta names this server gives a meaning; others are ignored."""

from typing import Final, Literal

ApiVersion = Literal["2023-06-01", "2026-10-21"]

VERSIONS: Final[tuple[ApiVersion, ...]] = ("2023-06-01", "2026-10-21")
OLDEST: Final[ApiVersion] = "2023-06-01"
NO_SAMPLING_SINCE: Final[ApiVersion] = "2026-10-21"
