"""Two lengths for tests that only say more the longer they run: short, or with SESTET_SOAK=1 (`make soak`) in full."""

import os
from typing import Final

SOAK: Final = os.environ.get("SESTET_SOAK", "") not in ("", "0")


def length(short: int, full: int) -> int:
    """How many there are of something. `short` still finds the mistakes that the test is there for."""
    return full if SOAK else short
