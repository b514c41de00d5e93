"""`sestet cost`: what requests cost. `estimate` says it beforehand, at the prices of the cards."""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx2
import orjson
import typer
from rich.console import Console

from sestet import __version__
from sestet.catalog.card import Card, family_cards
from sestet.cli.cost_report import report
from sestet.cli.estimates import Estimate, Load, as_csv, as_json, in_detail, side_by_side
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.cli.web import http_url, shown
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.server.exposure import is_loopback

_TOKENS_MAX: Final = 10_000_000  # far beyond any window
_CALLS_MAX: Final = 10**12
_COUNT_S_MAX: Final = 60.0
_WIDTH_IN_A_PIPE: Final = 140
_REPLY_ALONE: Final = MessagesRequest.model_fields.keys() - CountTokensRequest.model_fields.keys()

_console = Console(stderr=True, highlight=False)

app = typer.Typer(name="cost", callback=report, invoke_without_command=True)
app.command()(report)


@app.command()
def estimate(  # noqa: PLR0913 - each is an option
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A request as JSON, as /v1/messages takes it: its model, its prompt, its longest reply.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A card, by any of its names; again for more. By default all.", show_default=False),
    ] = None,
    prompt: Annotated[
        int | None,
        typer.Option("--prompt", "--tokens", min=0, max=_TOKENS_MAX, help="Tokens of each prompt.", show_default=False),
    ] = None,
    output: Annotated[
        int | None,
        typer.Option(min=0, max=_TOKENS_MAX, help="Tokens of each reply, thinking included.", show_default=False),
    ] = None,
    calls_per_day: Annotated[int, typer.Option(min=1, max=_CALLS_MAX, help="Calls a day.")] = 1,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Days to add up.")] = 30,
    cached: Annotated[
        str, typer.Option(help="What of each prompt is in the cache: a share (0.9, 90%) or tokens (1800).")
    ] = "0",
    writes: Annotated[int, typer.Option(min=0, help="Calls a day that write it there, all others read it.")] = 1,
    lifetime: Annotated[Literal["5m", "1h"], typer.Option(help="How long it stays there without being read.")] = "5m",
    batch: Annotated[str, typer.Option(help="Share of the calls that goes through batches: 0.5, 50%.")] = "0",
    url: Annotated[
        str, typer.Option("--url", "--server", help="Where a server is that counts the tokens of FILE.")
    ] = "http://127.0.0.1:8000",
    key: Annotated[
        str | None,
        typer.Option(envvar="ANTHROPIC_API_KEY", help="API key, where the server asks for one.", show_default=False),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON, in whole micro-dollars.")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="CSV, in dollars with six decimals.")] = False,
) -> None:
    """What a load of calls costs at the prices of the cards: by kind of token, a call, a day, a month.

    Nothing is asked of a model. A described load, with one card, then with all side by side:

        sestet cost estimate --calls-per-day 100000 --prompt 2000 --output 500 --model claude-3-7-sonnet

        sestet cost estimate --calls-per-day 100000 --prompt 2000 --output 500 --cached 0.9 --batch 0.5

    A request, its tokens counted by a running server, or given:

        sestet cost estimate request.json --url http://127.0.0.1:8000 --calls-per-day 5000

        sestet cost estimate request.json --tokens 2000 --output 300
    """
    if json_ and csv_:
        raise Failure("--json and --csv are two answers; ask for one of them")
    if writes > calls_per_day:
        raise Failure(f"--writes: {writes:,} calls cannot write to the cache where there are {calls_per_day:,}")
    request = _request(file) if file is not None else {}
    reply, batched = _reply(output, request), _share(batch, "--batch")
    estimates = []
    for name, card in _cards(model or ([request["model"]] if "model" in request else [])):
        tokens = _count(url, key, {**request, "model": name}) if prompt is None and request else prompt
        if tokens is None:
            raise Failure("how long is a prompt? give --prompt N, or a FILE whose tokens a server counts")
        load = Load(calls_per_day, tokens, reply, _cached(cached, tokens), writes, lifetime, batched)
        estimates.append(Estimate.of(card, load))
    _print(estimates, days, "json" if json_ else "csv" if csv_ else "table")
    for remark in _remarks(estimates, request, counted=prompt is None, limit=output is None):
        _console.print(remark, markup=False, soft_wrap=True)


def _print(estimates: Sequence[Estimate], days: int, form: Literal["json", "csv", "table"]) -> None:
    if form == "json":
        typer.echo(json.dumps(as_json(estimates, days), indent=2))
    elif form == "csv":
        typer.echo(as_csv(estimates, days), nl=False)
    else:
        # A pipe has no width; a table that is folded there cannot be read again.
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
        console.print(in_detail(estimates[0], days) if len(estimates) == 1 else side_by_side(estimates, days))


def _remarks(estimates: Sequence[Estimate], request: Mapping[str, Any], *, counted: bool, limit: bool) -> Iterator[str]:
    if counted:
        yield "The prompt was counted by the weights that answer there; others cut text into tokens differently."
    if limit:
        yield f"Every reply is taken to have `max_tokens`, {request['max_tokens']:,}; --output says less."
    for one in estimates:
        yield from one.remarks


def _request(file: Path) -> dict[str, Any]:
    try:
        request = orjson.loads(file.read_bytes())
    except OSError as error:
        raise Failure(f"{one_line(str(file))} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise Failure(f"{one_line(str(file))} is not JSON: {one_line(str(error))}") from None
    if not isinstance(request, dict) or not isinstance(request.get("model", ""), str) or "messages" not in request:
        raise Failure(f"{one_line(str(file))} is not a request as /v1/messages takes it")
    return request


def _reply(output: int | None, request: Mapping[str, Any]) -> int:
    longest = output if output is not None else request.get("max_tokens")
    if isinstance(longest, bool) or not isinstance(longest, int) or not 0 <= longest <= _TOKENS_MAX:
        raise Failure("how long is a reply? give --output N, or a FILE that has `max_tokens`")
    return longest


def _cards(names: Sequence[str]) -> list[tuple[str, Card]]:
    """The name of each as it was given, and its card."""
    cards = family_cards()
    if not names:
        return [(card.id, card) for card in cards if card.lifecycle == "active"]
    known = {name: card for card in cards for name in (card.id, *card.aliases, card.bedrock, card.vertex) if name}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name[:64], known, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(card.id for card in cards)}"
            raise Failure(f"no card with a price is named `{one_line(name)}`; {hint}")
    return [(name, known[name]) for name in names]


def _share(text: str, option: str) -> Fraction:
    number = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})(%?)", text)
    share = Fraction(number[1]) / (100 if number[2] else 1) if number else None
    if share is None or share > 1:
        raise Failure(f"{option} takes a share, such as 0.5 or 50%; not `{one_line(text)}`")
    return share


def _cached(text: str, prompt: int) -> int:
    """Tokens of a prompt, from a share (rounded half up) or as they are."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) <= 1:
        return (2 * _share(text, "--cached") * prompt + 1) // 2
    if int(text) > prompt:
        raise Failure(f"--cached: {int(text):,} tokens are more than the prompt's {prompt:,}")
    return int(text)


def _count(url: str, key: str | None, request: Mapping[str, Any]) -> int:
    """The prompt's tokens, as the server says. What matters to the reply alone is not sent."""
    address = http_url(url.rstrip("/"))
    where = shown(address)
    body = orjson.dumps({name: value for name, value in request.items() if name not in _REPLY_ALONE})
    headers = {
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "user-agent": f"sestet/{__version__}",
        **({"x-api-key": key} if key else {}),
    }
    try:
        # A proxy of the environment is for the world outside, not for this machine.
        with httpx2.Client(base_url=address, timeout=_COUNT_S_MAX, trust_env=not is_loopback(address.host)) as client:
            response = client.post("/v1/messages/count_tokens", content=body, headers=headers)
        answer = orjson.loads(response.content)
        if response.status_code == 200:
            return int(answer["input_tokens"])
        said = one_line(str(answer["error"]["message"]))
    except httpx2.ConnectError:
        raise Failure(
            f"nothing answers at {where}; start `sestet serve` in another terminal, give --url, or give --tokens"
        ) from None
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise Failure(f"the connection to {where} broke: {one_line(str(error)) or type(error).__name__}") from None
    except UnicodeEncodeError as error:
        raise Failure(f"--key cannot be used: {one_line(str(error))}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(f"what {where} answers is not the Messages API; is it a Sestet?") from None
    raise Failure(f"{said}; give the key with --key or in ANTHROPIC_API_KEY" if response.status_code == 401 else said)
