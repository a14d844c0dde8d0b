"""The Helm chart: linted and rendered by Helm's own Go code (helm-python-sdk), and held against Kubernetes' schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from console.cli import app
from headwater import SettingsError
from headwater.security import kafka_login
from headwater.security.parties import PARTIES, kafka_rights
from headwater.settings import load_settings
from headwater.topics import TOPICS, as_kept

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/headwater"
WORKERS = {"streams", "trainer", "serving", "gateway"}
DAYS = {"events": 90.0, "examples": 2.5}
EVERYTHING: dict[str, Any] = {
    "topics": "strimzi",
    "strimzi": {"users": True, "partitions": {"events": 12}},
    "scaling": {"enabled": True},
    "monitoring": {"enabled": True},
    "dashboards": {"enabled": True},
    "settings": {"kafka": {"prefix": "shop_", "retention_days": DAYS}, "signals": {"like": {"weight": 2}}},
}
OTHERS = {"strimzi", "keda", "monitoring"}
"""Groups of objects of which no package ships schemas."""


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name="headwater", namespace="shop")
    return [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text) if one]


@pytest.fixture(scope="module", params=[{}, EVERYTHING], ids=["as it is", "everything on"])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(request.param)


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    return rendered(EVERYTHING)


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = of_kind(objects, "Deployment", "StatefulSet", "Job")
    return {name.removeprefix("headwater-"): one["spec"]["template"]["spec"] for name, one in found.items()}


def test_helm_finds_nothing_to_say() -> None:
    for values in ({}, EVERYTHING):
        report = helm_python.lint(CHART, values, strict=True)
        assert not report["errors"]
        assert [one["error"] for one in report["messages"]] == ["icon is recommended"]


def test_what_kubernetes_knows_meets_its_schema(objects: list[dict[str, Any]]) -> None:
    for one in objects:
        if not OTHERS & set(one["apiVersion"].replace("/", ".").split(".")):
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_every_variable_is_a_setting_and_the_settings_load(
    objects: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, pod in pods(objects).items():
        said = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert len(said) == len(pod["containers"][0]["env"]), part
        with monkeypatch.context() as patch:
            for name, value in said.items():
                if name.startswith("HEADWATER_"):
                    patch.setenv(name, value)
            settings = load_settings()
            assert settings.serving.bundles == settings.trainer.bundles == "s3://headwater/models"
            with pytest.raises(SettingsError, match="/run/secrets"):  # and else nothing is wrong with the login
                kafka_login(settings.kafka)
        mounts = {one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        for name, value in said.items():
            if value.startswith("/run/secrets/"):
                assert value.removesuffix("/value") in mounts, name


def test_each_part_is_itself_and_may_write_nothing_but_its_own(objects: list[dict[str, Any]]) -> None:
    found = pods(objects)
    assert found.keys() - {"topics"} == WORKERS | {"operator"}
    for part, pod in found.items():
        container = pod["containers"][0]
        said = {one["name"]: one["value"] for one in container["env"]}
        user = "operator" if part == "topics" else part
        assert said["HEADWATER_KAFKA__SASL_USERNAME"] == f"headwater-{user}"
        stored = any(party.name == user and party.store for party in PARTIES)
        assert ("HEADWATER_REDIS__PASSWORD_FILE" in said) == stored
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        if part in WORKERS:
            assert container["command"] == ["python", "-m", f"{part}.worker"]
            assert (ROOT / part / "worker.py").is_file()
            assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
            assert container["resources"]["limits"]["memory"]


def test_what_the_chart_ships_is_what_the_commands_print() -> None:
    for file, command in (("users.yaml", ["acls", "--strimzi"]), ("topics.yaml", ["topics", "--strimzi"])):
        printed = CliRunner().invoke(app, command).output
        assert (CHART / "files" / file).read_text() == printed, f"headwater {' '.join(command)} > {file}"


def test_strimzi_gets_each_users_least_rights_and_each_topic(everything: list[dict[str, Any]]) -> None:
    users = of_kind(everything, "KafkaUser")
    assert users.keys() == {f"headwater-{party.name}" for party in PARTIES}
    for party in PARTIES:
        granted = {
            (acl["resource"]["type"], acl["resource"].get("name", "kafka-cluster"), operation)
            for acl in users[f"headwater-{party.name}"]["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        }
        assert granted == {(one.kind, one.name, one.operation) for one in kafka_rights(party, "shop_")}
    topics = {one["spec"]["topicName"]: one for one in of_kind(everything, "KafkaTopic").values()}
    assert topics.keys() == {f"shop_{topic.name}" for topic in TOPICS}
    for topic in TOPICS:
        spec = topics[f"shop_{topic.name}"]["spec"]
        assert spec["config"] == as_kept(topic, DAYS).configs
        assert spec["partitions"] == (12 if topic.name == "events" else topic.partitions)
        assert spec["replicas"] == 3
        assert topics[f"shop_{topic.name}"]["metadata"]["name"] == f"shop-{topic.name}"


def test_lag_scales_streams_and_serving_each_asked_for_as_itself(everything: list[dict[str, Any]]) -> None:
    scaled = of_kind(everything, "ScaledObject")
    assert scaled.keys() == {"headwater-streams", "headwater-serving"}
    for name, topic in (("streams", "events"), ("serving", "requests")):
        said = scaled[f"headwater-{name}"]["spec"]["triggers"][0]["metadata"]
        assert said["limitToPartitionsWithLag"] == "true"
        assert (said["consumerGroup"], said["topic"]) == (f"shop_{name}", f"shop_{topic}")
        assert "replicas" not in of_kind(everything, "Deployment")[f"headwater-{name}"]["spec"]


def test_alerts_and_dashboard_are_the_ones_that_there_are(everything: list[dict[str, Any]]) -> None:
    rules = of_kind(everything, "PrometheusRule")["headwater-monitoring"]["spec"]
    assert rules == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    shown = of_kind(everything, "ConfigMap")["headwater-dashboards"]["data"]["headwater.json"]
    assert shown.strip() == (ROOT / "deploy/grafana/dashboards/headwater.json").read_text().strip()


def test_a_login_by_token_needs_no_password_and_its_own_word_for_keda() -> None:
    aws = {"sasl_mechanism": "AWS_MSK_IAM", "aws_region": "eu-west-1"}
    said = {one["name"] for one in pods(rendered({"settings": {"kafka": aws}}))["streams"]["containers"][0]["env"]}
    assert not any("SASL_USERNAME" in name or "SASL_PASSWORD" in name for name in said)
    with pytest.raises(helm_python.HelmRenderError, match=r"scaling\.authentication"):
        rendered({"settings": {"kafka": aws}, "scaling": {"enabled": True}})
