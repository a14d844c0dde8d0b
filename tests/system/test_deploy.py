"""The compose file holds what it promises: checked as text, since no engine runs in the tests."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from console.cli import app
from embedded import EmbeddedStore
from headwater import AccessDenied, SettingsError
from headwater.security import kafka_login
from headwater.security.parties import PARTIES
from headwater.settings import KafkaSettings, RedisSettings, Settings
from streams.features.store import FeatureStore

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = {"streams", "trainer", "serving", "gateway", "page"}
ONCE = {"access", "topics"}
"""What ends when it has done its work."""
OURS = {"headwater", "models", "streams", "trainer", "serving", "viewing", "gateway", "replay"}


def test_every_part_is_there() -> None:
    assert SERVICES.keys() == {"kafka", "valkey", "objects", "prometheus", "grafana"} | WORKERS | ONCE


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_limited_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), f"{name}: pin the image"
    assert service["mem_limit"]
    assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - WORKERS - ONCE))
def test_every_server_has_a_health_check_and_keeps_its_data(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert any(mount.split(":")[0] in COMPOSE["volumes"] for mount in SERVICES[name]["volumes"])


DOCKERFILE = (ROOT / "Dockerfile").read_text()
SUPPLY = runpy.run_path(str(ROOT / "deploy/supply.py"))


def test_every_image_runs_as_nobody_in_particular_and_has_a_health_check_for_the_workers() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))
    assert stages.keys() == {"base", "wheels", "everything"} | SUPPLY["WITHOUT"].keys()
    assert list(stages)[-1] == "everything", "what `docker build .` makes"
    (asked,) = re.findall(r"^HEALTHCHECK .*\n.*http://127\.0\.0\.1:(\d+)/healthz", stages["base"], re.M)
    assert f" HEADWATER_OPERATIONS__PORT={asked}\n" in stages["base"], "a worker takes a free port else"
    assert {SERVICES[name]["environment"]["HEADWATER_OPERATIONS__PORT"] for name in WORKERS} == {asked}
    assert "useradd --uid 1000" in stages["base"], "as whom the chart runs it"
    for name in stages.keys() - {"base", "wheels"}:
        assert "\nUSER headwater\nCMD" in stages[name], name
        assert "COPY" not in stages[name], f"{name}: sources are in the wheels"
    for worker in SUPPLY["WITHOUT"]:
        assert f"-r /wheels/{worker}.txt" in stages[worker]
        assert f'CMD ["python", "-m", "{worker}.worker"]' in stages[worker]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = set(re.findall(r"^COPY (\w+) \1$", stages["wheels"], re.M))
    assert copied == {"headwater", *packages["packages"]}


def test_every_image_can_speak_to_object_storage_and_read_what_is_sealed() -> None:
    extras = set(re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.M))
    assert len(extras) == 1, "one truth for all"
    for worker in SUPPLY["WITHOUT"]:
        has = {SUPPLY["name_of"](one) for one in SUPPLY["needs"](worker, *extras)}
        assert has >= {"obstore", "cryptography", "prometheus-client", "uvloop"}
        assert not has & set(SUPPLY["WITHOUT"][worker])
        assert "torch" not in has


LOADED = """
import importlib, sys
away, wanted = sys.argv[1].split(","), sys.argv[2].split(",")
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away:
            raise ModuleNotFoundError(f"{name} is not in this image")
sys.meta_path.insert(0, Away())
for name in wanted:
    importlib.import_module(name)
"""


@pytest.mark.parametrize("worker", SUPPLY["WITHOUT"])
def test_a_worker_loads_all_that_it_ever_loads_without_what_its_image_does_without(worker: str) -> None:
    brought = importlib.metadata.packages_distributions()
    without = {re.sub(r"[-_.]+", "-", name) for name in SUPPLY["WITHOUT"][worker]}
    away = [top for top, names in brought.items() if {re.sub(r"[-_.]+", "-", one).lower() for one in names} <= without]
    assert len(away) >= len(without) - 1, "of onnxruntime a machine has one build"
    later = {
        node.module
        for path in (ROOT / worker).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and (ROOT / node.module.replace(".", "/")).parent.is_dir()
    }
    wanted = [f"{worker}.worker", *sorted(one for one in later if one.partition(".")[0] in {*OURS, worker})]
    words = [sys.executable, "-c", LOADED, ",".join(away), ",".join(wanted)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_start_what_exists_with_settings_that_exist(name: str) -> None:
    command = SERVICES[name]["command"]
    assert (ROOT / (command[2].replace(".", "/") + ".py")).is_file()
    for variable in SERVICES[name]["environment"]:
        if not variable.startswith("HEADWATER_"):
            continue
        section, field = variable.removeprefix("HEADWATER_").lower().split("__")
        annotation: Any = Settings.model_fields[section].annotation
        assert field in annotation.model_fields, variable


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_may_write_nowhere_but_where_they_keep_something(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_page_asks_each_worker_where_it_answers() -> None:
    told = json.loads((ROOT / "deploy/page/workers.json").read_text())["workers"]
    port = SERVICES["streams"]["environment"]["HEADWATER_OPERATIONS__PORT"]
    assert told == {name: f"http://{name}:{port}" for name in WORKERS - {"page"}}


def test_each_part_logs_in_as_itself_with_a_password_from_a_secret() -> None:
    for name in (*WORKERS, "topics"):
        said = SERVICES[name]["environment"]
        user = "operator" if name == "topics" else name
        assert said["HEADWATER_KAFKA__SASL_USERNAME"] == user
        assert SERVICES[name]["secrets"] == [user]
        assert said["HEADWATER_KAFKA__SASL_PASSWORD_FILE"] == f"/run/secrets/{user}"
        kafka = {
            key.removeprefix("HEADWATER_KAFKA__").lower(): value
            for key, value in said.items()
            if key.startswith("HEADWATER_KAFKA__") and key.endswith(("MECHANISM", "PROTOCOL", "USERNAME"))
        }
        with pytest.raises(SettingsError, match="/run/secrets"):  # and else nothing is wrong with it
            kafka_login(KafkaSettings(**kafka, sasl_password_file=Path(f"/run/secrets/{user}")))
        wants_store = any(party.name == name and party.store for party in PARTIES)
        assert ("HEADWATER_REDIS__PASSWORD_FILE" in said) == wants_store
    made = re.search(r"for name in (.*); do", (ROOT / "deploy/make-secrets.sh").read_text())
    assert made is not None
    assert set(made[1].split()) == COMPOSE["secrets"].keys() == {party.name for party in PARTIES}
    assert set(SERVICES["access"]["secrets"]) == COMPOSE["secrets"].keys()
    assert set(SERVICES["valkey"]["secrets"]) == {party.name for party in PARTIES if party.store}


def test_what_the_servers_are_told_is_what_the_command_prints() -> None:
    for file, option in (("deploy/kafka/acls.sh", "--kafka"), ("deploy/valkey/users.acl", "--redis")):
        printed = CliRunner().invoke(app, ["acls", option]).output
        assert (ROOT / file).read_text() == printed, f"headwater acls {option} > {file}"


def test_the_store_starts_with_its_users_from_secrets(tmp_path: Path) -> None:
    class Started(EmbeddedStore):
        def command(self) -> list[str]:
            entry = tmp_path / "bin" / "docker-entrypoint.sh"
            entry.parent.mkdir(exist_ok=True)
            binary, *words = super().command()
            entry.write_text(f'#!/bin/sh\nshift\nexec {binary} "$@"\n')
            entry.chmod(0o755)
            told = {"DEPLOY": ROOT / "deploy/valkey", "SECRETS": tmp_path / "secrets"}
            path = f"PATH={entry.parent}:{os.environ['PATH']}"
            start = ["sh", str(ROOT / "deploy/valkey/start.sh")]
            return ["env", path, *(f"{name}={value}" for name, value in told.items()), *start, *words]

        def ready(self) -> bool:
            return "Ready to accept" in self.log_path.read_text()

    (tmp_path / "secrets").mkdir()
    for name in SERVICES["valkey"]["secrets"]:
        (tmp_path / "secrets" / name).write_text(f"pw-{name}\n")
    with Started(tmp_path / "data") as store:
        settings = RedisSettings(url=SecretStr(store.address), username="streams", password=SecretStr("pw-streams"))
        with closing(FeatureStore(settings)) as features:
            features.claim()
        nobody = FeatureStore(RedisSettings(url=SecretStr(store.address)))
        with closing(nobody), pytest.raises(AccessDenied, match="refuses us"):
            nobody.check()


def test_trainer_and_serving_meet_in_one_bucket_and_share_no_disk() -> None:
    trainer, serving = (SERVICES[name]["environment"] for name in ("trainer", "serving"))
    assert trainer["HEADWATER_TRAINER__BUNDLES"] == serving["HEADWATER_SERVING__BUNDLES"] == "s3://headwater/models"
    mounts = [mount for name in WORKERS for mount in SERVICES[name].get("volumes", ()) if not mount.endswith(":ro")]
    assert mounts == ["trainer:/var/lib/headwater/trainer"]
    objects = SERVICES["objects"]
    assert "models:/data/headwater" in objects["volumes"], "a folder of the gateway's is the bucket of that name"
    assert serving["AWS_ENDPOINT_URL"] == f"http://objects{objects['command'][1]}"
    assert "ports" not in objects
    for key, ours in (("ROOT_ACCESS_KEY", "AWS_ACCESS_KEY_ID"), ("ROOT_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")):
        assert objects["environment"][key] == trainer[ours] == serving[ours]


def test_ports_are_on_loopback_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            if mount.startswith("./"):
                assert (ROOT / mount.split(":")[0]).exists(), mount


def test_every_worker_is_looked_at_and_what_a_gateway_loses_or_refuses_is_told() -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    looked = {one["labels"]["worker"]: one["targets"] for one in job["static_configs"]}
    assert looked == {name: [f"{name}:9100"] for name in WORKERS}
    told = set(re.findall(r"headwater_\w+", (ROOT / "deploy/prometheus/alerts.yml").read_text()))
    assert told >= {"headwater_gateway_lost_records", "headwater_gateway_requests_total"}


def test_dashboard_and_alerts_name_metrics_that_the_workers_have() -> None:
    folders = [ROOT / package for package in ("headwater", *sorted(WORKERS - {"page"}))]
    sources = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/headwater.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    names = {name for expression in expressions for name in re.findall(r"headwater_\w+", expression)}
    for name in names:
        base = re.sub(r"_(bucket|total)$", "", name)
        family = base.replace("ndcg_at_10", "{name}")  # the trainer names its prequential metrics by one pattern
        assert base in sources or family in sources, f"no worker has a metric {name}"
