"""The command line as a contract: help of every command, errors in one line, exit codes, generated pages current."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata
from typer.testing import CliRunner

from console.cli import app, main
from console.contract_pages import asyncapi, pages
from console.demonstration.summary import Summary
from console.local.addresses import Addresses, located_settings, running_addresses
from console.local.processes import WorkerProcess, settings_environment
from console.look.cluster import group_lags, open_consumer, topic_states
from embedded import free_port
from headwater.kafka import ensure_topics, producer
from headwater.settings import Settings, load_settings
from headwater.topics import topic_name
from tests.worlds.commands import headwater
from viewing.worker_metrics import quantile, read_metrics

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "up", "demo", "doctor", "topics", "tail", "produce", "recommend", "replay", "replay stream", "trace", "rollback",
    "dead-letters", "dead-letters list", "dead-letters redrive", "contract",
)  # fmt: skip


def nowhere() -> dict[str, str]:
    """Addresses at which nothing listens."""
    return {
        "HEADWATER_KAFKA__BOOTSTRAP": f"127.0.0.1:{free_port()}",
        "HEADWATER_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_the_help_lists_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom console.cli import main\nsys.argv = ['headwater', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'faust', 'redis', 'onnxruntime', 'kafka', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.split()[0] in done.stdout


@pytest.mark.parametrize(
    "words",
    [("topics",), ("recommend", "somebody"), ("produce", "somebody", "something"), ("tail", "events"), ("trace",)],
    ids=lambda words: words[0],
)
def test_a_server_that_is_away_is_one_clear_line_and_exit_code_2(words: tuple[str, ...], tmp_path: Path) -> None:
    done = headwater(*words, "--data", str(tmp_path), **nowhere())
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("headwater: no ")
    assert "headwater up" in lines[0]


def test_a_wrong_topic_names_those_there_are() -> None:
    done = headwater("tail", "evnets", **nowhere())
    assert done.returncode == 2
    assert "'evnets'" in done.stderr
    assert "dead-letters" in done.stderr


def test_an_unknown_setting_is_refused_by_name() -> None:
    done = headwater("topics", HEADWATER_KAKFA__BOOTSTRAP="x:1")
    assert done.returncode == 2
    assert "HEADWATER_KAKFA__BOOTSTRAP" in done.stderr


def test_an_unknown_option_is_exit_code_2() -> None:
    assert headwater("topics", "--colour").returncode == 2


def test_a_file_that_the_system_refuses_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["headwater", "replay", "backtest", "x" * 300])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


def test_an_event_without_an_item_is_refused_before_anything_is_sent() -> None:
    done = headwater("produce", "somebody", **nowhere())
    assert done.returncode == 2
    assert "an item" in done.stderr


def test_the_doctor_says_what_is_away_and_what_to_do(tmp_path: Path) -> None:
    done = headwater("doctor", "--json", "--data", str(tmp_path), **nowhere())
    assert done.returncode == 1, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    for name in ("broker", "store"):
        assert findings[name]["state"] == "wrong"
        assert "headwater up" in findings[name]["remedy"]
    assert findings["scorer"]["detail"]["provider"].endswith("ExecutionProvider")
    assert findings["learner"]["detail"]["device"] in {"cpu", "cuda"}
    assert findings["packages"]["detail"]["kafka-python"]


def test_the_doctor_says_that_a_gpu_is_asked_for_and_not_there(tmp_path: Path) -> None:
    asked = {"HEADWATER_TRAINER__DEVICE": "cuda", "HEADWATER_SERVING__PROVIDER": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    done = headwater("doctor", "--json", "--data", str(tmp_path), **nowhere(), **asked)
    assert done.returncode == 1, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["learner"]["state"] == "wrong"
    assert "HEADWATER_TRAINER__DEVICE=cpu" in findings["learner"]["text"]
    assert findings["scorer"]["state"] == "wrong"


def test_a_demo_without_its_file_says_so_and_starts_nothing(tmp_path: Path) -> None:
    done = headwater("demo", "--events", str(tmp_path / "absent.csv"), "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "absent.csv" in done.stderr.splitlines()[-1]


def test_the_contract_pages_are_current() -> None:
    result = CliRunner().invoke(app, ["contract", "--check", "--docs", str(ROOT / "docs")])
    assert result.exit_code == 0, result.output


def test_a_page_that_is_not_current_is_found_and_written(tmp_path: Path) -> None:
    check = ["contract", "--check", "--docs", str(tmp_path)]
    assert CliRunner().invoke(app, check).exit_code == 1
    assert CliRunner().invoke(app, ["contract", "--docs", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(app, check).exit_code == 0


@pytest.mark.parametrize(
    ("name", "body", "good"),
    [
        ("event", {"user_id": "u", "item_id": "i", "type": "click"}, True),
        ("event", {"user_id": "u", "item_id": "i", "type": "click", "event_time": "2026-11-22T10:00:00Z"}, True),
        ("event", {"user_id": "u", "item_id": "i", "type": "Click"}, False),
        ("event", {"user_id": "u", "item_id": "i", "type": "click", "colour": "red"}, False),
        ("item", {"item_id": "i", "title": "Alien", "categories": ["horror"]}, True),
        ("request", {"request_id": "r", "user_id": "u", "k": 5, "after": {"0": 7}}, True),
        ("request", {"user_id": "u", "k": 0}, False),
        ("recommendation", {"request_id": "r", "user_id": "u", "items": [{"item_id": "i", "rank": 1, "score": 1}]}, 1),
    ],
)  # fmt: skip
def test_the_schemas_accept_and_refuse_what_the_models_do(name: str, body: dict[str, Any], good: bool) -> None:
    schema = json.loads(pages()[f"contract/{name}.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(body))
    assert (not errors) == bool(good), errors


def test_every_reference_of_the_asyncapi_page_resolves() -> None:
    page = asyncapi()
    written = pages()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(page)
    assert found
    for reference in found:
        if reference.startswith("#/"):
            place: Any = page
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]
        else:
            assert f"contract/{reference}" in written


def test_a_worker_gets_exactly_the_settings_of_its_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = load_settings(
        kafka={"prefix": "w.", "sasl_password": "secret"},
        model={"overrides": {"width": 32}},
        serving={"exclude_seen": ("click", "view")},
        trainer={"directory": tmp_path},
        signals={
            "rating": {"positive": ">= 4", "negative": "<= 2"},
            "uninstall": {"undoes": ["install"]},
            "watch__for.a-while": {"reward": "0.01 * value"},
        },
    )
    for name, value in settings_environment(given).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given


def test_no_worker_but_the_edge_is_given_the_keys_of_pseudonyms(tmp_path: Path) -> None:
    secret = {"pseudonym_keys": f"k1 {'1' * 64}", "user_keys_file": "users.keys", "master_key": "2" * 64}
    given = load_settings(privacy={**secret, "consent": "opt-in"})
    found: dict[str, dict[str, str]] = {}

    class Told(WorkerProcess):
        def spawn(self, env: dict[str, str]) -> Any:
            found[self.name] = {name: value for name, value in env.items() if "PRIVACY" in name}

    for name in ("gateway", "streams"):
        Told(name, given, tmp_path / name).start()
    keys = "HEADWATER_PRIVACY__PSEUDONYM_KEYS"
    assert found["gateway"].pop(keys).startswith("k1 ")
    assert found["gateway"].pop("HEADWATER_PRIVACY__USER_KEYS_FILE") == "users.keys"
    assert found["gateway"].pop("HEADWATER_PRIVACY__MASTER_KEY") == "2" * 64
    assert found["gateway"] == found["streams"] != {}


def test_addresses_of_a_running_up_are_found_and_flags_win(tmp_path: Path) -> None:
    here = Addresses(
        pid=os.getpid(), kafka="a:1", redis="redis://a:2/0", prefix="p.", broker="embedded", store="embedded",
        data=str(tmp_path), bundles=str(tmp_path / "m"), checkpoints=str(tmp_path / "t"), shards=64,
    )  # fmt: skip
    here.write(tmp_path)
    assert running_addresses(tmp_path) == here
    found = located_settings(None, None, None, tmp_path)
    assert (found.kafka.bootstrap, found.kafka.prefix) == ("a:1", "p.")
    assert found.redis.url.get_secret_value() == "redis://a:2/0"
    assert found.serving.bundles == tmp_path / "m"
    assert found.redis.shards == 64
    assert located_settings(None, "redis://c:4", None, tmp_path).redis.shards == 1, "of another store nothing is known"
    assert located_settings("b:3", None, "q.", tmp_path).kafka.bootstrap == "b:3"


def test_addresses_of_a_console_that_is_gone_are_passed_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    Addresses(process.pid, "a:1", "redis://a:2/0", "", "embedded", "embedded", "d", "m", "t").write(tmp_path)
    assert running_addresses(tmp_path) is None


def test_a_quantile_since_an_earlier_scrape_leaves_out_what_came_before() -> None:
    before = {0.1: 100.0, 1.0: 100.0, float("inf"): 100.0}
    now = {0.1: 100.0, 1.0: 200.0, float("inf"): 200.0}
    assert quantile(0.5, now, before) == pytest.approx(0.55)
    assert quantile(0.5, before, before) is None


def test_samples_are_read_with_their_labels() -> None:
    found = read_metrics('# HELP x y\nx_total{reason="a b",more="1"} 2.0\nx_total{reason="c",more="1"} 3\nnan NaN\n')
    assert found.total("x_total") == 5.0
    assert found.total("x_total", reason="c") == 3.0
    assert found.value("absent") is None
    assert found.value("nan") is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"audit": "u:1: history differs"}, "history differs"),
        ({"events_applied": 8}, "10 events produced"),
        ({"dead_letters": 1, "events_applied": 9}, "1 dead letters"),
        ({"requests_answered": 4}, "1 of 5 requests"),
        ({"click_to_changed_ms": [1.0, None]}, "clicks did not change"),
        ({"dismissal_to_changed_ms": None}, "a dismissal did not change"),
        ({"takedown_to_changed_ms": None}, "what was taken down stayed"),
        ({"restarts": ["streams"]}, "streams"),
        ({"events_applied": 12}, "10 events produced, but 12 applied"),
        ({"events_applied": 12, "events_of_people": 2}, ""),
    ],
)
def test_a_demo_fails_on_whatever_was_promised_and_missed(changed: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {
        "events_produced": 10,
        "events_applied": 10,
        "requests_sent": 5,
        "requests_answered": 5,
        "audit": "ok",
        "click_to_changed_ms": [9.0, 8.0, 7.0],
        "dismissal_to_changed_ms": 6.0,
        "takedown_to_changed_ms": 5.0,
    }
    failures = Summary(**{**good, **changed}).failures()
    assert bool(failures) == bool(says)
    assert says in "; ".join(failures)


@pytest.mark.parametrize(
    "module",
    [
        "viewing.worker_metrics",
        "console.commands.tail",
        "console.commands.topics",
        "console.demonstration.newcomer",
        "console.demonstration.view",
        "console.demonstration.visitors",
        "console.policy_notes",
        "headwater.spelling",
        "serving.arranging.tiers",
        "serving.surfaces.kept",
    ],
)
def test_the_sessions_in_docstrings_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted
    assert not results.failed


def test_a_partition_that_its_group_never_committed_waits_from_its_beginning(
    settings: Settings,
) -> None:
    ensure_topics(settings.kafka)
    writer = producer(settings.kafka)
    try:
        for partition in (0, 1):
            for _ in range(5):
                writer.send(topic_name("events", settings.kafka.prefix), key=b"x", value=b"{}", partition=partition)
        writer.flush()
    finally:
        writer.close()

    def waiting() -> dict[tuple[str, str], tuple[int, str]]:
        lags = group_lags(settings.kafka, topic_states(settings.kafka))
        return {
            (lag.group.removeprefix(settings.kafka.prefix), lag.topic.removeprefix(settings.kafka.prefix)): (
                lag.lag,
                lag.state,
            )
            for lag in lags
        }

    assert waiting() == {("streams", "events"): (10, "Absent")}
    part = TopicPartition(topic_name("events", settings.kafka.prefix), 0)
    with open_consumer(settings.kafka, "streams") as reader:
        reader.assign([part])
        reader.commit({part: OffsetAndMetadata(5, "", -1)})
    assert waiting()[("streams", "events")][0] == 5
