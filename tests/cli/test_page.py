"""The page at `/`: complete in itself, allowed nothing it does not need, and showing text as text."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx2
import pytest

from tests.running import RunningServer


class Page(HTMLParser):
    """What its tags and attributes are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, list[str]] = {"style": [], "script": []}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = tag if tag in self.inside else self._open

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open].append(data)


@pytest.fixture(scope="module")
def answer(scripted: RunningServer) -> httpx2.Response:
    return httpx2.get(f"{scripted.url}/")


@pytest.fixture(scope="module")
def page(answer: httpx2.Response) -> Page:
    return Page(answer.text)


def test_it_refers_to_nothing_outside_this_server(answer: httpx2.Response, page: Page) -> None:
    references = {value for _, name, value in page.attributes if name in ("href", "src", "action", "srcset", "data")}
    loading = {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "source", "image", "use"}

    assert {"#models", "#try", "#operations", "/openapi.json"} == references
    assert set() == set(page.tags) & loading
    assert [] == re.findall(r"(?:https?:)?//[a-z0-9]|@import|url\(", answer.text)


def test_it_has_one_style_one_script_and_none_in_attributes(page: Page) -> None:
    inline = [(tag, name) for tag, name, _ in page.attributes if name == "style" or name.startswith("on")]

    assert ["style", "script"] == [tag for tag in page.tags if tag in ("style", "script")]
    assert [] == inline
    assert [] == [one for one in page.attributes if one[0] in ("style", "script")]


def test_the_policy_allows_exactly_what_is_in_it(answer: httpx2.Response, page: Page) -> None:
    digests = {
        tag: base64.b64encode(hashlib.sha256("".join(inside).encode()).digest()).decode()
        for tag, inside in page.inside.items()
    }

    assert [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'none'",
        f"style-src 'sha256-{digests['style']}'",
        f"script-src 'sha256-{digests['script']}'",
    ] == answer.headers["content-security-policy"].split("; ")


def test_its_script_never_makes_markup_or_code_from_text(page: Page) -> None:
    (script,) = page.inside["script"]
    dangerous = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|setHTML"

    assert [] == re.findall(dangerous, script)
    assert [] == re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie", script)


def test_every_part_its_script_looks_for_is_there(page: Page) -> None:
    (script,) = page.inside["script"]
    ids = [value for _, name, value in page.attributes if name == "id"]

    assert len(set(ids)) == len(ids)
    assert set() == set(re.findall(r'byId\("([^"]+)"\)', script)) - set(ids)
