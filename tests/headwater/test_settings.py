"""Settings: where they come from, what is refused, what is masked."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from headwater import Client, SettingsError
from headwater.events import OLDEST_MS
from headwater.settings import Settings, load_settings, read_signals
from headwater.signals import Meaning, Signal
from headwater.surfaces import Surface


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings but those that the test makes; the folder it runs in."""
    import os

    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arguments_win_over_the_environment_over_the_file_over_defaults(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().kafka.bootstrap == "127.0.0.1:9092"
    (bare / "headwater.toml").write_text('[kafka]\nbootstrap = "file:1"\nprefix = "file."\nlinger_ms = 7\n')
    monkeypatch.setenv("HEADWATER_KAFKA__PREFIX", "env.")
    monkeypatch.setenv("HEADWATER_KAFKA__LINGER_MS", "8")
    kafka = load_settings(kafka={"linger_ms": 9}).kafka
    assert (kafka.bootstrap, kafka.prefix, kafka.linger_ms, kafka.replication) == ("file:1", "env.", 9, 1)


def test_a_file_can_be_named_and_must_then_be_there(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "mine.toml").write_text('[redis]\nurl = "redis://elsewhere:1/0"\n')
    monkeypatch.setenv("HEADWATER_CONFIG", "mine.toml")
    assert load_settings().redis.url.get_secret_value() == "redis://elsewhere:1/0"
    monkeypatch.setenv("HEADWATER_CONFIG", "gone.toml")
    with pytest.raises(SettingsError, match=r"HEADWATER_CONFIG names gone\.toml, which is not a file"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "days", "why"),
    [
        ("items", 30, "it is compacted"),
        ("identities", 30, "it is kept whole"),
        ("learning", 3, "it is kept as long as examples"),
        ("evnts", 30, "no such topic"),
        ("events", 0, "0 days are not"),
        ("events", float("nan"), "nan days are not"),
    ],
)
def test_a_topic_whose_old_records_are_still_true_gets_no_retention(name: str, days: float, why: str) -> None:
    with pytest.raises(SettingsError, match=f"{why}.*Days can be given for events, requests"):
        load_settings(kafka={"retention_days": {name: days}})
    assert load_settings(kafka={"retention_days": {"events": 90}}).kafka.retention_days == {"events": 90}


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\nbotstrap = "x:1"\n',
        '[kafak]\nbootstrap = "x:1"\n',
        "top = 1\n",
        "[kafka]\nlinger_ms = -1\n",
        "[kafka\n",
    ],
)
def test_what_the_file_gets_wrong_is_refused(bare: Path, text: str) -> None:
    (bare / "headwater.toml").write_text(text)
    with pytest.raises(SettingsError):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADWATER_KAFAK__BOOTSTRAP", "x:1"),
        ("HEADWATER_KAFKA__BOTSTRAP", "x:1"),
        ("HEADWATER_KAFKA__LINGER_MS", "soon"),
        ("HEADWATER_KAFKA__PREFIX", "no spaces"),
        ("HEADWATER_KAFKA", "not json"),
        ("HEADWATER_MODEL__OVERRIDES", "max_items=3"),
        ("HEADWATER_GATEWAY__CORS_ORIGINS", "[https://shop.example]"),
        ("HEADWATER_TRAINER__DEVICE", "tpu"),
    ],
)
def test_what_the_environment_gets_wrong_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError):
        load_settings()


@pytest.mark.parametrize("text", ['["https://a.example", "https://b.example"]', "https://a.example, https://b.example"])
def test_a_list_in_the_environment_is_json_or_words_with_commas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HEADWATER_GATEWAY__CORS_ORIGINS", text)
    monkeypatch.setenv("HEADWATER_SERVING__EXCLUDE_SEEN", "*")
    settings = load_settings()
    assert settings.gateway.cors_origins == ("https://a.example", "https://b.example")
    assert settings.serving.exclude_seen == ("*",)


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        "",
        "host:",
        ":9092",
        "host:0",
        "host:65536",
        "host:port",
        "kafka://host:9092",
        "a:1,",
        "a:1,b",
        "::1:9",
    ],
)
def test_brokers_that_are_not_host_and_port_are_refused_and_the_form_is_told(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HEADWATER_KAFKA__BOOTSTRAP", given)
    with pytest.raises(SettingsError, match=r"kafka\.bootstrap: '.*' is not host:port\. Give host:port"):
        load_settings()
    monkeypatch.delenv("HEADWATER_KAFKA__BOOTSTRAP")
    with pytest.raises(SettingsError, match=r"kafka\.bootstrap: '.*' is not host:port\. Give host:port"):
        Client(given)


@pytest.mark.parametrize("given", ["h:1", "a-1.b_c:65535,10.0.0.1:9092", "[::1]:9092,[fe80::1%eth0]:9092", "a:1, b:2"])
def test_brokers_may_be_several_and_of_either_internet_protocol(given: str) -> None:
    assert load_settings(kafka={"bootstrap": given}).kafka.bootstrap == given.replace(" ", "")


def test_the_oldest_day_of_events_is_a_date_of_environment_or_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings().streams.oldest_ms == OLDEST_MS
    monkeypatch.setenv("HEADWATER_STREAMS__OLDEST", "1970-01-02")
    assert load_settings().streams.oldest_ms == 86_400_000
    monkeypatch.delenv("HEADWATER_STREAMS__OLDEST")
    (tmp_path / "headwater.toml").write_text("[streams]\noldest = 2001-09-09\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings().streams.oldest_ms == 999_993_600_000
    monkeypatch.setenv("HEADWATER_STREAMS__OLDEST", "1969-12-31")
    with pytest.raises(SettingsError, match=r"streams\.oldest"):
        load_settings()


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", "/somewhere")
    monkeypatch.setenv("HEADWATER_TEST_BROKER", "kafka")
    assert load_settings().kafka.prefix == ""


def test_secrets_are_masked_when_printed_and_when_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(kafka={"sasl_password": "hunter2"}, redis={"url": "redis://:hunter2@host:1/0"})
    for told in (str(settings), repr(settings), settings.model_dump_json(), repr(settings.kafka), repr(settings.redis)):
        assert "hunter2" not in told
    for name, value in {"HEADWATER_KAFKA__SASL_PASWORD": "hunter2", "HEADWATER_REDIS": "redis://:hunter2@h:1"}.items():
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            with pytest.raises(SettingsError) as caught:
                load_settings()
            assert "hunter2" not in str(caught.value)


def test_settings_are_frozen_and_each_one_is_described() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.kafka.prefix = "other."
    for section, field in Settings.model_fields.items():
        model = {"signals": Signal, "surfaces": Surface}.get(section, field.annotation)
        for name, setting in model.model_fields.items():  # type: ignore[union-attr]
            assert setting.description, f"{section}.{name} has no description"


@pytest.mark.parametrize(
    "text", ['[signals.skip]\nmeans = "negative"\n[kafka]\nprefix = "x."', '[skip]\nmeans = "negative"']
)
def test_signals_stand_in_a_file_of_their_own_or_among_all_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "signals.toml"
    path.write_text(text)
    assert read_signals(path) == {"skip": Signal(means=Meaning.NEGATIVE)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[signals.skip\n", r"signals.toml is not TOML.*\[signals.NAME\]"),
        ("", "names no type of event"),
        ('[skip]\nmeens = "negative"', r"signals.toml: signals.skip.meens: Extra inputs"),
        ('[Skip]\nmeans = "negative"', "'Skip' is no type of event"),
        ('[signals.skip]\nmeans = "negative"\n[like]\nweight = 2', r"\[like\] stands beside .*\[signals.like\]"),
        ("skip = 3", "signals.skip: "),
        ('[rating]\npositive = "4"', 'signals.rating.positive: .*such as ">= 4"'),
    ],
)
def test_a_file_that_holds_no_signals_is_refused_with_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "signals.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_signals(path)


def test_a_table_of_signals_that_no_event_can_have_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text('[signals."Order Completed"]\nreward = 10')
    monkeypatch.setenv("HEADWATER_CONFIG", str(path))
    with pytest.raises(SettingsError, match="'Order Completed' is no type of event"):
        load_settings()
