"""The configuration: what it takes, what it refuses and in which words, and who wins."""

from pathlib import Path

import pytest

from sestet.config import AwsKeySection, Config, ConfigError, environment_name, load, settings

SECRET = "sixteen/letters="
PAIR = "[[access.aws_keys]]\naccess_key_id = 'AKIAIOSFODNN7EXAMPLE'"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sestet.toml"


def read(file: Path, text: str = "", **environment: str) -> Config:
    file.write_text(text, "utf-8")
    return load(file, environment)


def refused(file: Path, text: str = "", **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(file, text, **environment)
    return str(caught.value)


def test_nothing_configured_serves_the_embedded_model_on_this_machine(file: Path) -> None:
    config = read(file)

    assert ("127.0.0.1", 8000, (), "llamacpp", (), "info") == (
        config.server.host,
        config.server.port,
        config.access.keys,
        config.engine.kind,
        config.weights,
        config.log.level,
    )


def test_a_whole_file_is_read(file: Path) -> None:
    config = read(
        file,
        """
        [server]
        host = "0.0.0.0"
        port = 9000
        allowed_hosts = ["a.example", "b.example"]
        [access]
        keys = ["sk-1", "sk-2"]
        [engine]
        kind = "scripted"
        script = "script.toml"
        [[weights]]
        path = "one.gguf"
        id = "one-1"
        aliases = ["one"]
        [[weights]]
        path = "two.gguf"
        [log]
        level = "debug"
        [aliases]
        "claude-3-7-sonnet-latest" = "one-1"
        """,
    )

    assert {
        "server": {
            "host": "0.0.0.0",  # noqa: S104 - read, not listened on
            "port": 9000,
            "allowed_hosts": ("a.example", "b.example"),
        },
        "engine": {"kind": "scripted", "script": Path("script.toml")},
        "log": {"level": "debug"},
        "weights": (
            {"path": Path("one.gguf"), "id": "one-1", "aliases": ("one",)},
            {"path": Path("two.gguf")},
        ),
        "aliases": {"claude-3-7-sonnet-latest": "one-1"},
    } == config.model_dump(exclude_unset=True, exclude={"access"})
    assert ["sk-1", "sk-2"] == [key.get_secret_value() for key in config.access.keys]


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[server]\nprot = 1", "server.prot", "server.port"),
        ("[servr]\nport = 1", "servr", "server"),
        ("[engine]\nslot = 1", "engine.slot", "engine.slots"),
        ("[access]\nkey = 'x'", "access.key", "access.keys"),
        ("[[weights]]\npath = 'a'\npth = 'b'", "weights.0.pth", "weights.0.path"),
        ("[[weight]]\npath = 'a'", "weight", "weights"),
        ("port = 8000", "port", ""),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(file: Path, text: str, key: str, nearest: str) -> None:
    message = refused(file, text)

    assert message.startswith(f"{key}: there is no such setting; ")
    assert nearest in message


def test_a_key_like_none_is_refused_with_all_there_are(file: Path) -> None:
    assert "log.xyzzy: there is no such setting; there are log.format, log.level" == refused(file, "[log]\nxyzzy = 1")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nport = 'eighty'", "server.port"),
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nport = -1", "server.port"),
        ("[server]\nport = 80.5", "server.port"),
        ("[server]\nport = true", "server.port"),
        ("[server]\nhost = 5", "server.host"),
        ("[server]\ndrain_s = -1", "server.drain_s"),
        ("[server]\ndrain_s = nan", "server.drain_s"),
        ("[server]\nstall_s = 0", "server.stall_s"),
        ("[server]\nqueue = -1", "server.queue"),
        ("[server]\nqueue = false", "server.queue"),
        ("[access]\nkeys = 5", "access.keys"),
        ("[access]\nkeys = [5]", "access.keys.0"),
        ("[access]\nkeys = ['']", "access.keys.0"),
        ("[access]\nkeys = ['sk-1', '  ']", "access.keys.1"),
        ("[[access.aws_keys]]\nsecret_access_key = 'x'", "access.aws_keys.0.access_key_id"),
        ("[[access.aws_keys]]\naccess_key_id = 'AKIA'\nsecret_access_key = 'x'", "access.aws_keys.0.access_key_id"),
        (f"{PAIR}\nsecret_access_key = ''", "access.aws_keys.0.secret_access_key"),
        (f"{PAIR}\nsecret_access_key = 'only-15-letters'", "access.aws_keys.0.secret_access_key"),
        (f"{PAIR}\nsecret_access_key = '{SECRET} {SECRET}'", "access.aws_keys.0.secret_access_key"),
        (f"{PAIR}\nsecret_access_key = '{SECRET}'\n{PAIR}\nsecret_access_key = '{SECRET}'", "access.aws_keys"),
        ("[engine]\nkind = 'vllm'", "engine.kind"),
        ("[engine]\nslots = 257", "engine.slots"),
        ("[engine]\nwindow = -1", "engine.window"),
        ("[engine]\nstall_timeout_s = nan", "engine.stall_timeout_s"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[[weights]]\nid = 'x'", "weights.0.path"),
        ("[weights]\npath = 'x'", "weights"),
        ("[aliases]\nx = 5", "aliases.x"),
        ("server = 5", "server"),
        ("aliases = []", "aliases"),
    ],
)
def test_a_malformed_value_is_refused_by_its_key(file: Path, text: str, key: str) -> None:
    assert refused(file, text).startswith(f"{key}: ")


def test_every_mistake_is_told_at_once(file: Path) -> None:
    message = refused(file, "[server]\nport = 'x'\nprot = 1\n[log]\nlevel = 'loud'")

    assert [
        "server.port",
        "server.prot",
        "log.level",
    ] == [key for key in ("server.port", "server.queue", "server.prot", "log.level") if f"{key}: " in message]


def test_every_setting_of_a_section_can_be_given_by_the_environment(file: Path) -> None:
    names = [environment_name(section, key) for section, key, _ in settings() if section and section != "[weights]"]

    assert [
        "SESTET_SERVER_HOST",
        "SESTET_SERVER_PORT",
        "SESTET_SERVER_DRAIN_S",
        "SESTET_SERVER_ALLOWED_HOSTS",
        "SESTET_SERVER_QUEUE",
        "SESTET_SERVER_STALL_S",
        "SESTET_ACCESS_KEYS",
        "SESTET_ACCESS_ADMIN_KEYS",
        "SESTET_ACCESS_AWS_KEYS",
        "SESTET_ACCESS_KEY_PEPPERS",
        "SESTET_ENGINE_KIND",
        "SESTET_ENGINE_SCRIPT",
        "SESTET_ENGINE_SLOTS",
        "SESTET_ENGINE_WINDOW",
        "SESTET_ENGINE_THREADS",
        "SESTET_ENGINE_STALL_TIMEOUT_S",
        "SESTET_THINKING_SIGNING_KEYS",
        "SESTET_THINKING_REDACT",
        "SESTET_THINKING_CHANGED",
        "SESTET_THINKING_FOREIGN",
        "SESTET_TOOLS_SCHEMAS",
        "SESTET_CACHE_DISK",
        "SESTET_CACHE_FOLDER",
        "SESTET_CACHE_VOLATILE_LINES",
        "SESTET_STORE_URL",
        "SESTET_STORE_OUTBOX",
        "SESTET_STORE_WHEN_DOWN",
        "SESTET_LOG_LEVEL",
        "SESTET_LOG_FORMAT",
    ] == names


def test_the_environment_wins_over_the_file(file: Path) -> None:
    config = read(
        file,
        "[server]\nport = 1\nhost = 'a'\n[access]\nkeys = ['file']",
        SESTET_SERVER_PORT="2",
        SESTET_ACCESS_KEYS="one, two ,",
        SESTET_SERVER_ALLOWED_HOSTS="x.example",
        HOME="/root",
    )

    assert (2, "a", ["one", "two"], ("x.example",)) == (
        config.server.port,
        config.server.host,
        [key.get_secret_value() for key in config.access.keys],
        config.server.allowed_hosts,
    )


def test_the_command_line_wins_over_the_environment(file: Path) -> None:
    file.write_text("[server]\nport = 1\nqueue = 7")
    config = load(file, {"SESTET_SERVER_PORT": "2"}, {"server": {"port": 3, "host": None}, "engine": {"kind": None}})

    assert (3, "127.0.0.1", 7, "llamacpp") == (
        config.server.port,
        config.server.host,
        config.server.queue,
        config.engine.kind,
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SESTET_SERVER_PROT", "SESTET_SERVER_PORT"),
        ("SESTET_PORT", "SESTET_"),
        ("SESTET_KEYS", "SESTET_"),
        ("SESTET_WEIGHTS_PATH", "SESTET_"),
        ("SESTET_", "SESTET_"),
        ("SESTET_ALIASES", "SESTET_"),
    ],
)
def test_an_unknown_variable_of_ours_is_refused(file: Path, name: str, nearest: str) -> None:
    message = refused(file, **{name: "1"})

    assert message.startswith(f"{name}: there is no such setting; ")
    assert nearest in message


def test_a_wrong_value_in_the_environment_is_refused(file: Path) -> None:
    assert refused(file, SESTET_SERVER_PORT="eighty").startswith("server.port: ")


def test_a_section_that_is_no_section_is_refused_with_a_variable_too(file: Path) -> None:
    assert refused(file, "server = 5", SESTET_SERVER_PORT="1").startswith("server: ")


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("[access]\nkeys = ['sentinel-1', 5]", {}),
        ("[access]\nkeys = {a = 'sentinel-1'}", {}),
        ("[access]\nkeys = ['sentinel-1']\nkye = 'sentinel-2'", {}),
        ("[access]\nkeys = ['sentinel-1'", {}),
        ("[access]\nkeys = [sentinel-1]", {}),
        ("[server]\nport = 'sentinel-1'", {}),
        ("", {"SESTET_ACCESS_KYES": "sentinel-1"}),
        ("", {"SESTET_SERVER_PORT": "sentinel-1"}),
        ('[access]\nkeys = ["\\ud800sentinel-1"]', {}),
    ],
)
def test_a_refusal_shows_no_value(file: Path, text: str, environment: dict[str, str]) -> None:
    assert "sentinel" not in refused(file, text, **environment)


def test_a_key_is_shown_nowhere(file: Path) -> None:
    config = read(file, "[access]\nkeys = ['sentinel-key']")

    assert not [text for text in (repr(config), str(config), config.model_dump_json()) if "sentinel" in text]


def test_a_missing_file_is_fine_unless_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "missing.toml", {})


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read"):
        load(tmp_path, {})


def test_what_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe[server]")

    with pytest.raises(ConfigError, match="it cannot be read"):
        load(file, {})


@pytest.mark.parametrize("text", ["[server", "port = = 1", "[server]\nport = 1\nport = 2", "x = " + "[" * 5_000])
def test_what_is_no_toml_is_refused(file: Path, text: str) -> None:
    assert str(file) in refused(file, text)


def test_a_configuration_cannot_be_changed(file: Path) -> None:
    config = read(file)

    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1


def test_every_setting_says_what_it_is() -> None:
    assert not [(section, key) for section, key, field in settings() if not field.description]


def test_key_pairs_are_given_by_the_file_or_the_environment(file: Path) -> None:
    written = read(file, f"{PAIR}\nsecret_access_key = '{SECRET}'\nworkspace = 'wrkspc_1'").access.aws_keys
    given = read(
        file, SESTET_ACCESS_AWS_KEYS=f"AKIAIOSFODNN7EXAMPLE:{SECRET}, AKIAI44QH8DHBEXAMPLE:{SECRET}d,"
    ).access.aws_keys

    assert [("AKIAIOSFODNN7EXAMPLE", SECRET, "wrkspc_1")] == [shown(key) for key in written]
    assert [("AKIAIOSFODNN7EXAMPLE", SECRET, None), ("AKIAI44QH8DHBEXAMPLE", f"{SECRET}d", None)] == list(
        map(shown, given)
    )


def shown(key: AwsKeySection) -> tuple[str, str, str | None]:
    return key.access_key_id, key.secret_access_key.get_secret_value(), key.workspace


def test_a_secret_access_key_is_in_no_text_about_the_configuration(file: Path) -> None:
    config = read(file, f"{PAIR}\nsecret_access_key = 'sentinel-of-a-pair'")
    message = refused(file, SESTET_ACCESS_AWS_KEYS="AKIA:sentinel-of-a-pair")

    assert "sentinel" not in repr(config)
    assert "sentinel" not in message
