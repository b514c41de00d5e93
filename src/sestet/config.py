"""The configuration: one frozen tree, read once from `sestet.toml` and the environment, here and nowhere else.

An unknown or malformed key stops the start, with the key, what is wrong and the nearest right key.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

DEFAULT_FILE = "sestet.toml"
ENVIRONMENT_PREFIX = "SESTET_"


class ConfigError(ValueError):
    """The configuration cannot be used; the text names the key and says what to write instead."""


def _comma_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    items = [item.strip() for item in value.split(",") if item.strip()]
    if not items:  # an empty variable must not take the keys of the file away
        raise ValueError("this is given but empty; leave it out, or name something")
    return items


def _printable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text or not text.isascii() or any(not 33 <= ord(character) < 127 for character in text):
        raise ValueError("a key is one or more printable ASCII characters, without spaces")
    return key


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object) -> object:
        """No setting is yes or no, and `port = true` is not port 1."""
        if isinstance(value, bool):
            raise ValueError("this is not a yes or no")
        return value


class ServerSection(Section):
    """Where to listen, and how long things may take."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    drain_s: float = Field(default=30.0, ge=0, description="how long running replies may go on after SIGTERM")
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = Field(
        default=(),
        description="further `Host` names let in where no key is asked for (127.0.0.1, ::1, localhost are)",
    )
    queue: int = Field(default=256, ge=0, description="requests that may wait for each model; more get 529")
    stall_s: float = Field(default=60.0, gt=0, description="a client that reads nothing for so long is cut off")


def _key_pairs(value: object) -> object:
    """In the environment a pair is `ID:SECRET`; neither holds a comma or a colon."""
    if not isinstance(value, str):
        return value
    pairs = []
    for item in filter(str.strip, value.split(",")):
        access_key_id, _, secret = item.strip().partition(":")
        pairs.append({"access_key_id": access_key_id, "secret_access_key": secret})
    return pairs


def _long(secret: SecretStr) -> SecretStr:
    """Whoever sees one signed request can try secrets on it for as long as they like."""
    if len(secret.get_secret_value()) < 16:
        raise ValueError("a secret has at least 16 characters")
    return secret


class AwsKeySection(Section):
    """One key pair that clients of Bedrock sign their requests with."""

    access_key_id: str = Field(
        pattern=r"^[A-Za-z0-9_]{16,128}$", description="its id, 16 to 128 letters, digits and `_`"
    )
    secret_access_key: Annotated[SecretStr, AfterValidator(_printable), AfterValidator(_long)] = Field(
        description="its secret, of at least 16 characters"
    )
    workspace: str | None = Field(
        default=None, description="id of the workspace that it belongs to; by default the default workspace"
    )


def _different(keys: tuple[AwsKeySection, ...]) -> tuple[AwsKeySection, ...]:
    if len({key.access_key_id for key in keys}) != len(keys):
        raise ValueError("an access key id is given twice")
    return keys


class AccessSection(Section):
    """Who may call."""

    keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_printable)], ...], BeforeValidator(_comma_list)] = Field(
        default=(),
        description="API keys of the default workspace; without any here or in the store, only an address of this "
        "machine may be listened on",
    )
    admin_keys: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_printable)], ...], BeforeValidator(_comma_list)
    ] = Field(default=(), description="keys that administrate the organisation and cannot be used for inference")
    aws_keys: Annotated[tuple[AwsKeySection, ...], BeforeValidator(_key_pairs), AfterValidator(_different)] = Field(
        default=(),
        description="key pairs that clients of Bedrock may sign with instead of sending a key: "
        "`access_key_id`, `secret_access_key`, `workspace`",
    )
    key_peppers: Path | None = Field(
        default=None,
        description="file of the secrets that stored keys are hashed with, made at the first start; "
        "by default `~/.local/share/sestet/key-peppers`",
    )


class EngineSection(Section):
    """How weights are run. Every set of weights has an engine of its own with these settings."""

    kind: Literal["llamacpp", "scripted"] = Field(
        default="llamacpp",
        description="`llamacpp` runs models; `scripted` says what a script tells it, for tests and client builders",
    )
    script: Path | None = Field(default=None, description="the scripted engine's script, a TOML file")
    slots: int = Field(
        default=0, ge=0, le=256, description="replies at once; 0: up to 8, as a quarter of the memory holds"
    )
    window: int = Field(default=0, ge=0, description="context window in tokens; 0: the weights' own, 32,768 at most")
    threads: int = Field(default=0, ge=0, le=1024, description="threads; 0: one for each core")
    stall_timeout_s: float = Field(default=30.0, gt=0, description="an engine without progress for so long is replaced")


class ThinkingSection(Section):
    """Thoughts: what proves them, what clients see of them, what happens to those that come back wrong."""

    signing_keys: Path | None = Field(
        default=None,
        description="file of the secrets that sign thinking blocks, made at the first start; "
        "by default `~/.local/share/sestet/signing-keys`",
    )
    redact: Literal["on_demand", "always"] = Field(
        default="on_demand",
        description="`always`: clients get thoughts encrypted; `on_demand`: only if the prompt holds the test string",
    )
    changed: Literal["refuse", "drop"] = Field(
        default="refuse", description="a thinking block of ours that comes back altered: 400, or left out"
    )
    foreign: Literal["refuse", "drop"] = Field(
        default="drop", description="a thinking block made elsewhere: left out with a header, or 400"
    )


class ToolsSection(Section):
    """Tools and structured output."""

    schemas: Literal["documented", "extended"] = Field(
        default="documented",
        description="`documented`: schemas of strict tools and of structured output are the contract's subset; "
        "`extended`: whatever a grammar can hold",
    )


class StoreSection(Section):
    """Where workspaces, keys, limits and the ledger are kept."""

    url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; "
        "by default the SQLite file `~/.local/share/sestet/sestet.db`",
    )
    outbox: Path | None = Field(
        default=None,
        description="folder for bills that the database cannot take at the moment; "
        "by default `~/.local/share/sestet/outbox`",
    )
    when_down: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="new requests while the database cannot take their bills: 529, or served and billed afterwards",
    )


class CacheSection(Section):
    """Prompt caching: what is kept of prompts with cache breakpoints, so that it need not be computed again."""

    disk: float = Field(
        default=10.0,
        ge=0,
        description="GiB of disk for it, the oldest going first; 0: nothing is kept, nothing is read",
    )
    folder: Path | None = Field(default=None, description="where; by default `~/.local/share/sestet/cache`")
    volatile_lines: tuple[str, ...] = Field(
        default=("x-anthropic-billing-header:.*",),
        description="regular expressions: a first line of the system prompt that matches one is left out, because it "
        "changes with every request and no two prompts would have a beginning in common",
    )


class WeightsSection(Section):
    """One GGUF file to serve. The first one answers for the stand-ins."""

    path: Path = Field(description="a GGUF file")
    id: str | None = Field(default=None, description="its snapshot id; by default made from the file's name")
    display_name: str | None = Field(default=None, description="its name; by default the file's")
    aliases: tuple[str, ...] = Field(default=(), description="further names; `<id>-latest` always exists")


class OwnPrice(Section):
    """What running a set of weights costs the operator, in US dollars per million tokens."""

    input: float = Field(default=0.0, ge=0, le=10_000, description="for each token of a prompt, cached or not")
    output: float = Field(default=0.0, ge=0, le=10_000, description="for each token of a reply")


class LogSection(Section):
    """What is written to standard error. Never a prompt, a reply or a secret."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level written")
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: console in a terminal, JSON elsewhere"
    )


class Config(Section):
    """`sestet.toml`, whole."""

    server: ServerSection = ServerSection()
    access: AccessSection = AccessSection()
    engine: EngineSection = EngineSection()
    thinking: ThinkingSection = ThinkingSection()
    tools: ToolsSection = ToolsSection()
    cache: CacheSection = CacheSection()
    store: StoreSection = StoreSection()
    log: LogSection = LogSection()
    weights: tuple[WeightsSection, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict, description="aliases to add or move: name = snapshot id")
    own_prices: dict[str, OwnPrice] = Field(
        default_factory=dict, description="what weights cost you, by their snapshot id: `{ input = 0.1, output = 0.2 }`"
    )


def load(
    file: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """File, then environment (`SESTET_SERVER_PORT=8001`), then the command line, the later one winning."""
    tree = _read(file)
    for source in (_from_environment(environment), overrides or {}):
        for section, values in source.items():
            given = {key: value for key, value in values.items() if value is not None}
            below = tree.get(section, {})
            if given and isinstance(below, dict):  # what is no section is refused by its name below
                tree[section] = {**below, **given}
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def settings() -> Iterator[tuple[str, str, FieldInfo]]:
    """Every setting as (section, key, field), for the manual and for `--help`."""
    for section, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for key, inner in kind.model_fields.items():
                yield section, key, inner
        elif section == "weights":
            for key, inner in WeightsSection.model_fields.items():
                yield "[weights]", key, inner
        else:
            yield "", section, field


def environment_name(section: str, key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{section}_{key}".upper()


def _read(file: Path | None) -> dict[str, Any]:
    path = file or Path(DEFAULT_FILE)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it cannot be read ({error})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: it is not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    known = {
        environment_name(section, key): (section, key)
        for section, key, _ in settings()
        if section and not section.startswith("[")
    }
    tree: dict[str, dict[str, Any]] = {}
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name not in known:
            raise ConfigError(f"{name}: there is no such setting{_nearest(name, known)}")
        section, key = known[name]
        tree.setdefault(section, {})[key] = value
    return tree


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        path = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: there is no such setting{_nearest(path, _siblings(problem['loc']))}")
        else:
            lines.append(f"{path}: {problem['msg']}")
    return "; ".join(lines)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """The right keys at the place of a wrong one, as full paths."""
    fields: Mapping[str, FieldInfo] = Config.model_fields
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        kind = fields[part].annotation
        inner = next((a for a in (*get_args(kind), kind) if isinstance(a, type) and issubclass(a, Section)), None)
        fields = inner.model_fields if inner else {}
    prefix = ".".join(map(str, location[:-1]))
    return [f"{prefix}.{name}" if prefix else name for name in fields]


def _nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; there are {', '.join(sorted(known))}"


def default_signing_keys() -> Path:
    return _data_folder() / "signing-keys"


def default_key_peppers() -> Path:
    return _data_folder() / "key-peppers"


def default_outbox() -> Path:
    return _data_folder() / "outbox"


def default_cache() -> Path:
    return _data_folder() / "cache"


def default_database() -> str:
    """The URL of a SQLite file beside the signing keys."""
    return f"sqlite:///{quote(str(_data_folder() / 'sestet.db'))}"


def database_url(settings: Config) -> str:
    """The URL to open; it may hold a password."""
    return settings.store.url.get_secret_value() if settings.store.url else default_database()


def _data_folder() -> Path:
    """Where data of a user's programs belongs; a relative XDG_DATA_HOME is to be ignored."""
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".local" / "share"
    return base / "sestet"


def from_process(file: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """The configuration of this process, from its file and its environment."""
    return load(file, os.environ, overrides)
