"""`sestet cost estimate`: the arithmetic of the documents, described loads, requests counted by a real server."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, refusal
from tests.cli.hub import Hub, running
from tests.running import RunningServer

SONNET = ("--model", "claude-3-7-sonnet")
# The load of the article: a system prompt of 2,000 tokens, 100,000 requests a day.
ARTICLE = ("--calls-per-day", "100000", "--prompt", "2000", "--output", "0")

Answers = list[dict[str, Any]]


def answers(run: Run, *arguments: str) -> Answers:
    result = run("cost", "estimate", *arguments, "--json")

    assert 0 == result.exit_code, result.output
    found: Answers = json.loads(result.stdout)
    return found


def day(run: Run, *arguments: str) -> dict[str, int]:
    """Micro-dollars a day of the kinds of token that there are, and in total."""
    (answer,) = answers(run, *arguments)
    return {kind: amount for kind, amount in answer["micro_dollars"]["day"].items() if amount}


def request_file(folder: Path, **fields: object) -> str:
    body = {"model": "claude-3-7-sonnet", "messages": [{"role": "user", "content": "Why is the sky blue?"}], **fields}
    file = folder / "request.json"
    file.write_text(json.dumps(body))
    return str(file)


def test_the_article_is_right_about_a_prompt_that_is_not_cached(run: Run) -> None:
    assert {"input": 600_000_000, "total": 600_000_000} == day(run, *ARTICLE, *SONNET)


def test_the_articles_cached_prompt_costs_60_dollars_and_not_3(run: Run) -> None:
    cached = day(run, *ARTICLE, *SONNET, "--cached", "1")

    assert {"cache_write_5m": 7_500, "cache_read": 59_999_400, "total": 60_006_900} == cached


def test_writes_are_paid_as_often_as_they_happen_and_by_their_lifetime(run: Run) -> None:
    short = day(run, *ARTICLE, *SONNET, "--cached", "1", "--writes", "288")
    long = day(run, *ARTICLE, *SONNET, "--cached", "1", "--writes", "24", "--lifetime", "1h")
    never = day(run, *ARTICLE, *SONNET, "--cached", "1", "--writes", "0")

    assert {"cache_write_5m": 2_160_000, "cache_read": 59_827_200, "total": 61_987_200} == short
    assert {"cache_write_1h": 288_000, "cache_read": 59_985_600, "total": 60_273_600} == long
    assert {"cache_read": 60_000_000, "total": 60_000_000} == never


def test_batches_bring_the_articles_1_50_and_7_50_a_million(run: Run) -> None:
    million = ("--prompt", "1000000", "--output", "1000000", *SONNET)

    assert {"input": 3_000_000, "output": 15_000_000, "total": 18_000_000} == day(run, *million)
    assert {"input": 1_500_000, "output": 7_500_000, "total": 9_000_000} == day(run, *million, "--batch", "1")


def test_37_costs_what_35_did(run: Run) -> None:
    load = ("--prompt", "1234", "--output", "567", "--cached", "0.5", "--calls-per-day", "1000")
    new, old = answers(run, *load, *SONNET, "--model", "claude-3-5-sonnet-latest")

    assert new["micro_dollars"] == old["micro_dollars"]


@pytest.mark.parametrize(
    ("cheap", "times", "saved_percent"), [("claude-3-haiku-20240307", 12, 55), ("claude-3-5-haiku-latest", 3.75, 44)]
)
def test_sending_60_percent_of_the_calls_to_a_small_model_saves_what_the_article_says(
    run: Run, cheap: str, times: float, saved_percent: int
) -> None:
    shape = ("--prompt", "2000", "--output", "500")
    whole = day(run, *shape, *SONNET, "--calls-per-day", "100000")["total"]
    hard = day(run, *shape, *SONNET, "--calls-per-day", "40000")["total"]
    easy = day(run, *shape, "--model", cheap, "--calls-per-day", "60000")["total"]

    assert times * easy * 100_000 == whole * 60_000
    assert saved_percent == round(100 * (whole - hard - easy) / whole)


def test_every_name_of_a_card_has_its_price(run: Run) -> None:
    names = (
        "claude-3-7-sonnet-20250219",
        "claude-3-7-sonnet-latest",
        "anthropic/claude-3.7-sonnet",
        "anthropic.claude-3-7-sonnet-20250219-v1:0",
        "claude-3-7-sonnet@20250219",
    )
    found = answers(run, *ARTICLE, *(part for name in names for part in ("--model", name)))

    assert [("claude-3-7-sonnet-20250219", 600_000_000)] * 5 == [
        (answer["model"], answer["micro_dollars"]["day"]["total"]) for answer in found
    ]


def test_a_described_load_is_told_by_kind_for_a_call_a_day_and_a_month(run: Run) -> None:
    load = ("--calls-per-day", "100000", "--prompt", "2000", "--output", "500", "--cached", "0.9", "--batch", "0.5")

    assert [
        {
            "model": "claude-3-7-sonnet-20250219",
            "days": 30,
            "load": {
                "calls": 100_000,
                "prompt": 2_000,
                "output": 500,
                "cached": 1_800,
                "writes": 1,
                "lifetime": "5m",
                "batched": "0.5",
            },
            "micro_dollars_per_million": {
                "input": 3_000_000,
                "cache_write_5m": 3_750_000,
                "cache_write_1h": 6_000_000,
                "cache_read": 300_000,
                "output": 15_000_000,
            },
            "tokens_per_day": {
                "input": 20_000_000,
                "cache_write_5m": 1_800,
                "cache_write_1h": 0,
                "cache_read": 179_998_200,
                "output": 50_000_000,
            },
            "micro_dollars": {
                "call": {
                    "input": 450,
                    "cache_write_5m": 0,
                    "cache_write_1h": 0,
                    "cache_read": 405,
                    "output": 5_625,
                    "total": 6_480,
                },
                "day": {
                    "input": 45_000_000,
                    "cache_write_5m": 5_063,
                    "cache_write_1h": 0,
                    "cache_read": 40_499_595,
                    "output": 562_500_000,
                    "total": 648_004_658,
                },
                "period": {
                    "input": 1_350_000_000,
                    "cache_write_5m": 151_875,
                    "cache_write_1h": 0,
                    "cache_read": 1_214_987_850,
                    "output": 16_875_000_000,
                    "total": 19_440_139_725,
                },
            },
        }
    ] == answers(run, *load, *SONNET)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("0", 0), ("1", 2001), ("0.9", 1801), ("90%", 1801), (".5", 1001), ("2", 2), ("2001", 2001), ("0.1%", 2)],
)
def test_what_is_cached_is_a_share_or_tokens(run: Run, given: str, tokens: int) -> None:
    (answer,) = answers(run, "--prompt", "2001", "--output", "0", "--cached", given, *SONNET)

    assert tokens == answer["load"]["cached"]


@pytest.mark.parametrize(
    ("arguments", "price", "remarks"),
    [
        (("--prompt", "200000"), 3_000_000, []),
        (("--prompt", "200001"), 6_000_000, ["long-context prices"]),
        (("--prompt", "200000", "--cached", "199999"), 3_000_000, []),
        (("--prompt", "200001", "--cached", "200000"), 6_000_000, ["long-context prices"]),
    ],
)
def test_long_context_prices_begin_above_200000_tokens_cached_or_not(
    run: Run, arguments: tuple[str, ...], price: int, remarks: list[str]
) -> None:
    result = run("cost", "estimate", *arguments, "--output", "1", "--model", "claude-sonnet-4-0", "--json")

    assert price == json.loads(result.stdout)[0]["micro_dollars_per_million"]["input"]
    assert remarks == re.findall("long-context prices", result.stderr)


def test_a_call_that_a_card_would_refuse_is_remarked_upon(run: Run) -> None:
    said = run(
        "cost", "estimate", "--prompt", "200001", "--output", "9000", *SONNET, "--model", "claude-3-haiku-20240307"
    )

    assert [
        "Claude Sonnet 3.7 would refuse this, or stop early: 200,000 tokens is its window, 128,000 its longest reply.",
        "Claude Haiku 3 would refuse this, or stop early: 200,000 tokens is its window, 4,096 its longest reply.",
    ] == said.stderr.splitlines()


def lines(text: str) -> list[str]:
    """The lines of a table, without rules and gaps."""
    return [" ".join(line.split()) for line in text.splitlines() if re.search("[a-z]", line)]


def test_one_card_is_shown_by_kind_of_token(run: Run) -> None:
    shown = run("cost", "estimate", *ARTICLE, *SONNET, "--cached", "0.75", "--batch", "50%")

    assert [
        "Claude Sonnet 3.7 (claude-3-7-sonnet-20250219), in US dollars",
        "per million tokens a day a call a day 30 days",
        "input 3.00 50,000,000 0.001125 112.50 3,375.00",
        "cache writes, 5 minutes 3.75 1,500 0.00 0.004219 0.126563",
        "cache reads 0.30 149,998,500 0.000337 33.75 1,012.49",
        "total 200,000,000 0.001463 146.25 4,387.62",
        "Calls through batches, 50% of them, are in it at half the price.",
    ] == lines(shown.stdout)


def test_several_cards_are_shown_side_by_side_all_active_ones_by_default(run: Run) -> None:
    shown = run("cost", "estimate", *ARTICLE, "--days", "1000", "--cached", "1")

    assert [
        "1,000 days by kind of token, in US dollars",
        "input cache writes cache reads output 1,000 days a day a call",
        "Claude Opus 4.1 0.00 37.50 299,997.00 0.00 300,034.50 300.03 0.003000",
        "Claude Opus 4 0.00 37.50 299,997.00 0.00 300,034.50 300.03 0.003000",
        "Claude Sonnet 4 0.00 7.50 59,999.40 0.00 60,006.90 60.01 0.000600",
        "Claude Sonnet 3.7 0.00 7.50 59,999.40 0.00 60,006.90 60.01 0.000600",
        "Claude Haiku 3.5 0.00 2.00 15,999.84 0.00 16,001.84 16.00 0.000160",
        "Claude Haiku 3 0.00 0.600000 5,999.94 0.00 6,000.54 6.00 0.000060",
    ] == lines(shown.stdout)


def test_csv_has_every_amount_in_dollars(run: Run) -> None:
    shown = run("cost", "estimate", *ARTICLE, *SONNET, "--cached", "1", "--csv")
    head, *rows = csv.reader(io.StringIO(shown.stdout))
    model = "claude-3-7-sonnet-20250219"

    assert [
        "model",
        "kind",
        "dollars_per_million",
        "tokens_per_day",
        "dollars_per_call",
        "dollars_per_day",
        "days",
        "dollars",
    ] == head
    assert [
        [model, "input", "3.000000", "0", "0.000000", "0.000000", "30", "0.000000"],
        [model, "cache_write_5m", "3.750000", "2000", "0.000000", "0.007500", "30", "0.225000"],
        [model, "cache_write_1h", "6.000000", "0", "0.000000", "0.000000", "30", "0.000000"],
        [model, "cache_read", "0.300000", "199998000", "0.000600", "59.999400", "30", "1799.982000"],
        [model, "output", "15.000000", "0", "0.000000", "0.000000", "30", "0.000000"],
        [model, "total", "", "200000000", "0.000600", "60.006900", "30", "1800.207000"],
    ] == rows


def test_a_request_is_counted_by_a_running_server(run: Run, tmp_path: Path, scripted: RunningServer) -> None:
    file = request_file(tmp_path, max_tokens=100, stream=True, temperature=0.5, stop_sequences=["x"])
    result = run("cost", "estimate", file, "--url", scripted.url, "--json")
    (answer,) = json.loads(result.stdout)
    prompt = answer["load"]["prompt"]

    assert 0 < prompt < 100
    assert ("claude-3-7-sonnet-20250219", 100) == (answer["model"], answer["load"]["output"])
    assert 3 * prompt + 1_500 == answer["micro_dollars"]["call"]["total"]
    assert [
        "The prompt was counted by the weights that answer there; others cut text into tokens differently.",
        "Every reply is taken to have `max_tokens`, 100; --output says less.",
    ] == result.stderr.splitlines()


def test_a_longer_request_costs_more(run: Run, tmp_path: Path, scripted: RunningServer) -> None:
    def cost(**fields: object) -> int:
        file = request_file(tmp_path, **fields)
        return day(run, file, "--server", scripted.url, "--output", "0", *SONNET)["input"]

    assert cost() < cost(system="Answer in one short sentence.")


def test_a_request_whose_tokens_are_given_asks_nobody(run: Run, tmp_path: Path) -> None:
    file = request_file(tmp_path, max_tokens=64)
    found = day(run, file, "--tokens", "1000", "--output", "10", "--url", "http://127.0.0.1:1")

    assert {"input": 3_000, "output": 150, "total": 3_150} == found


def test_what_the_server_refuses_is_told(run: Run, tmp_path: Path, scripted: RunningServer) -> None:
    file = request_file(tmp_path, max_tokens=64, temprature=1)

    assert "temprature" in refusal(run("cost", "estimate", file, "--url", scripted.url))


def test_a_key_is_sent_where_a_server_asks_for_one(run: Run, tmp_path: Path, serve: Any) -> None:
    key = "sk-sestet-0123456789012345678901234567890"
    server = serve(script="", config=f'[access]\nkeys = ["{key}"]\n')
    arguments = ("cost", "estimate", request_file(tmp_path, max_tokens=1), "--url", server.url)
    counted = run(*arguments, env={"ANTHROPIC_API_KEY": key})
    line = refusal(run(*arguments))

    assert 0 == counted.exit_code
    assert line.endswith("; give the key with --key or in ANTHROPIC_API_KEY")


def test_no_server_is_told(run: Run, tmp_path: Path) -> None:
    expected = (
        "nothing answers at http://127.0.0.1:1; start `sestet serve` in another terminal, give --url, or give --tokens"
    )
    file = request_file(tmp_path, max_tokens=1)

    assert expected == refusal(run("cost", "estimate", file, "--url", "http://127.0.0.1:1"))


def test_another_kind_of_server_is_told(run: Run, tmp_path: Path) -> None:
    file = request_file(tmp_path, max_tokens=1)
    with running(Hub()) as hub:
        line = refusal(run("cost", "estimate", file, "--url", hub.url))

    assert f"what {hub.url} answers is not the Messages API; is it a Sestet?" == line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "how long is a reply? give --output N, or a FILE that has `max_tokens`"),
        (("--output", "1"), "how long is a prompt? give --prompt N, or a FILE whose tokens a server counts"),
        (("--prompt", "1"), "how long is a reply? give --output N, or a FILE that has `max_tokens`"),
        ((*ARTICLE, "--json", "--csv"), "--json and --csv are two answers; ask for one of them"),
        ((*ARTICLE, "--batch", "2"), "--batch takes a share, such as 0.5 or 50%; not `2`"),
        ((*ARTICLE, "--batch", "-1"), "--batch takes a share, such as 0.5 or 50%; not `-1`"),
        ((*ARTICLE, "--batch", "half"), "--batch takes a share, such as 0.5 or 50%; not `half`"),
        ((*ARTICLE, "--cached", "101%"), "--cached takes a share, such as 0.5 or 50%; not `101%`"),
        ((*ARTICLE, "--cached", "1e3"), "--cached takes a share, such as 0.5 or 50%; not `1e3`"),
        ((*ARTICLE, "--cached", "1.5"), "--cached takes a share, such as 0.5 or 50%; not `1.5`"),
        ((*ARTICLE, "--cached", "2001"), "--cached: 2,001 tokens are more than the prompt's 2,000"),
        (
            (*ARTICLE, "--writes", "100001"),
            "--writes: 100,001 calls cannot write to the cache where there are 100,000",
        ),
        (
            (*ARTICLE, "--model", "claude-3-7-sonet-latest"),
            "no card with a price is named `claude-3-7-sonet-latest`; did you mean `claude-3-7-sonnet-latest`?",
        ),
        (("missing.json",), "missing.json cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_one_line(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    assert expected == refusal(run("cost", "estimate", *arguments))


def test_a_name_like_none_is_told_which_there_are(run: Run) -> None:
    line = refusal(run("cost", "estimate", *ARTICLE, "--model", "gpt-4"))

    assert line.startswith("no card with a price is named `gpt-4`; there are claude-opus-4-1-20250805, ")


@pytest.mark.parametrize("text", ["[]", "3", '{"model": "claude-3-7-sonnet"}', '{"model": 1, "messages": []}'])
def test_a_file_that_is_no_request_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)

    assert f"{file} is not a request as /v1/messages takes it" == refusal(run("cost", "estimate", str(file)))


def test_a_file_that_is_no_json_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{")

    assert refusal(run("cost", "estimate", str(file))).startswith(f"{file} is not JSON: ")


@pytest.mark.parametrize("value", ["1", -1, True, None, 1.5, 10**8])
def test_a_longest_reply_that_is_none_is_asked_for(run: Run, tmp_path: Path, value: object) -> None:
    file = request_file(tmp_path, max_tokens=value)

    assert refusal(run("cost", "estimate", file, "--tokens", "1")).startswith("how long is a reply?")


def test_help_shows_examples_that_work(run: Run) -> None:
    told = run("cost", "estimate", "--help", env={"COLUMNS": "140"}).stdout
    examples = [example.split()[1:] for example in re.findall(r"sestet cost estimate [^[\n]+", told)]
    described = [example for example in examples if "request.json" not in example]

    assert 4 == len(examples)
    assert [0, 0] == [run(*example).exit_code for example in described]
