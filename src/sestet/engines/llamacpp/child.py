"""The engine's process: loads the weights, serves them on a private Unix socket, dies with its parent.

It is told what to do in one JSON line on standard input and answers with one JSON line on standard output; a
second line says that it serves. Nothing secret is in its arguments or its environment.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xllamacpp

from sestet.contract.deltas import Weights
from sestet.engines.llamacpp.gguf import GgufError, GgufFacts, digest, read_facts
from sestet.engines.llamacpp.process import Order
from sestet.turn.template import ChatTemplate, TemplateRefused

WINDOW_MAX_DEFAULT = 32_768
SLOTS_MAX_DEFAULT = 8
# Tokens read in one step: between steps the server looks for cancelled requests and serves its other streams, and
# tells of its progress. Large weights read slowly, so their steps are smaller.
PREFILL_STEP_TOKENS = 256
PREFILL_STEP_TOKENS_LARGE = 64
LARGE_FILE_BYTES = 4 * 2**30
TEMPLATE_MEMORY_BYTES = 512 * 2**20
_PR_SET_PDEATHSIG = 1


def main() -> None:
    order = Order(**json.loads(sys.stdin.readline()))
    _die_with_parent(order.parent_pid)
    # llama.cpp may print; our one line must stay alone on standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        facts = read_facts(Path(order.model))
        if not facts.chat_template:
            raise GgufError("the file has no chat template, so it is not a model for conversations")
        _try_template(facts)
        window, slots = _sizes(order, facts)
        os.umask(0o077)  # the states of slots are what clients said
        parameters = _parameters(order, window, slots)
        identity = (
            f"{digest(Path(order.model))}-{xllamacpp.__version__}-{parameters.cache_type_k}-{parameters.cache_type_v}"
        )
        server = xllamacpp.Server(parameters)
    except (OSError, GgufError, RuntimeError) as error:
        print(json.dumps({"error": _reason(error)}), file=answers, flush=True)
        sys.exit(1)
    os.chmod(order.socket, 0o600)
    answer = {"facts": asdict(facts), "window": window, "slots": slots, "identity": identity}
    print(json.dumps(answer), file=answers, flush=True)
    # The server runs in threads of its own; this one waits for the parent to close the pipe.
    sys.stdin.read()
    del server
    os._exit(0)


def _die_with_parent(parent_pid: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def _try_template(facts: GgufFacts) -> None:
    """Runs the template once, with little memory: one that eats it all ends this process, not the API's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + TEMPLATE_MEMORY_BYTES, hard))
    try:
        weights = Weights(1, facts.chat_template, facts.bos_token, facts.eos_token, facts.special_tokens)
        ChatTemplate(weights).render([{"role": "user", "content": "Hello"}], continue_last=False)
    except (TemplateRefused, MemoryError) as error:
        raise GgufError(f"its chat template cannot be used: {error}") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _sizes(order: Order, facts: GgufFacts) -> tuple[int, int]:
    """Window and slots; where not asked for, as many slots as keep the KV cache in a quarter of the memory."""
    window = min(order.window or WINDOW_MAX_DEFAULT, facts.train_window)
    if order.slots:
        return window, order.slots
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    affordable = memory // 4 // max(1, facts.kv_bytes_per_token * window)
    return window, max(1, min(SLOTS_MAX_DEFAULT, affordable))


def _parameters(order: Order, window: int, slots: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = order.model
    parameters.hostnames = [order.socket]
    parameters.api_keys = [order.secret]
    parameters.n_parallel = slots
    parameters.n_ctx = window * slots
    parameters.kv_unified = False  # a fifth faster at eight streams than one shared window
    parameters.fit_params = False
    parameters.ctx_shift = False
    is_large = Path(order.model).stat().st_size > LARGE_FILE_BYTES
    step = PREFILL_STEP_TOKENS_LARGE if is_large else PREFILL_STEP_TOKENS
    parameters.n_batch = step
    parameters.n_ubatch = step
    # Its own cache of prompts beside the slots would serve any tenant what was computed for another.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    if order.snapshots:
        parameters.slot_save_path = f"{order.snapshots}/"
    parameters.n_threads_http = slots + 8  # a stream holds a thread; the rest tokenise and answer probes
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.offline = True
    parameters.verbosity = 1
    if order.threads:
        parameters.cpuparams.n_threads = order.threads
        parameters.cpuparams_batch.n_threads = order.threads
    return parameters


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return error.strerror or "it cannot be read"
        case GgufError():
            return str(error)
        case _:
            return "llama.cpp could not load it"


if __name__ == "__main__":
    main()
