"""Runs snippets of the documents, unchanged, and prints what they printed and left in their variables as JSON.

The argument is JSON: name -> file, and the names that the snippet uses without defining them. Run by the interpreter
of an SDK.
"""

import contextlib
import io
import json
import sys
from pathlib import Path


def run(file, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(Path(file).read_text("utf-8"), file, "exec"), names)  # noqa: S102 - that is its job
    return {"printed": printed.getvalue(), "model": str(names.get("model")), "response": told(names.get("response"))}


def told(response):
    return response and {
        "model": response.model,
        "types": [block.type for block in response.content],
        "characters": sum(len(block.text) for block in response.content),
        "stop_reason": response.stop_reason,
        "input_tokens": response.usage.input_tokens,
        "output_tokens": response.usage.output_tokens,
    }


print(json.dumps({name: run(file, names) for name, (file, names) in json.loads(sys.argv[1]).items()}))
