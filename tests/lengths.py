"""Two lengths for tests that only say more the longer they run: short, or with SESTET_SOAK=1 (`make soak`) in full."""

import os
from typing import Final

SOAK: Final = (os.environ.pop("SESTET_SOAK", "") or os.environ.get("TESTS_SOAK", "")) not in ("", "0")
# A server refuses settings that it does not know. Processes that tests start are told by this name.
os.environ["TESTS_SOAK"] = str(int(SOAK))


def length(short: int, full: int) -> int:
    """How many there are of something. `short` still finds the mistakes that the test is there for."""
    return full if SOAK else short
