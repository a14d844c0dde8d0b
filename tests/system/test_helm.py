"""The Helm chart: linted and rendered by Helm's own Go code (helm-python-sdk), and held against Kubernetes' schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from console.cli import app
from headwater import SettingsError
from headwater.security import kafka_login, redis_login
from headwater.security.parties import PARTIES, kafka_rights
from headwater.settings import load_settings
from headwater.topics import TOPICS, as_kept
from tests.security.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/headwater"
WORKERS = {"streams", "trainer", "serving", "gateway"}
PARTS = ("streams", "trainer", "serving", "gateway", "page", "operator")
DAYS = {"events": 90.0, "examples": 2.5}
EVERYTHING: dict[str, Any] = {
    "topics": "strimzi",
    "strimzi": {"users": True, "partitions": {"events": 12}},
    "scaling": {"enabled": True},
    "workers": {"page": {"replicas": 1}},
    "environment": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "serviceAccount": {"annotations": {"role": "shop"}},
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
    assert found.keys() - {"topics", "page"} == WORKERS | {"operator"}
    assert ("page" in found) == ("topics" not in found), "everything is on where Strimzi makes the topics"
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
        if part in WORKERS | {"page"}:
            package = "gateway" if part == "page" else part
            assert container["command"] == ["python", "-m", f"{package}.worker"]
            assert (ROOT / package / "worker.py").is_file()
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


def certificate(section: str, part: str) -> dict[str, dict[str, str]]:
    """A part's certificate and key, of a secret of its own."""
    secret = f"{section}-{part}"
    return {
        f"{section}.ssl_certfile": {"secret": secret, "key": "tls.crt"},
        f"{section}.ssl_keyfile": {"secret": secret, "key": "tls.key"},
    }


def test_certificates_by_secret_files_log_every_part_in_at_kafka_and_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "made", "client")
    files = {"ca.crt": authority["ca.pem"], "tls.crt": authority["client.pem"], "tls.key": authority["client-key.pem"]}
    made = rendered(
        {
            "settings": {
                "kafka": {"security_protocol": "SSL", "sasl_mechanism": None},
                "redis": {"url": "rediss://valkey:6380/0"},
            },
            "redis": {
                "caSecret": {"name": "valkey-ca"},
                "users": {name: {"secret": ""} for name in ("streams", "serving", "operator")},
            },
            "secretFiles": {part: certificate("kafka", part) | certificate("redis", part) for part in PARTS},
            "scaling": {"enabled": True},
            "workers": {"page": {"replicas": 1}},
        }
    )
    for part, pod in pods(made).items():
        said = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        mounted = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        lies = {
            f"{mounted[one['name']]}/{item['path']}": files[item["key"]]
            for one in pod["volumes"]
            if "secret" in one
            for item in one["secret"]["items"]
        }
        with monkeypatch.context() as patch:
            for name, value in said.items():
                patch.setenv(name, lies.get(value, value))
            settings = load_settings()
        kafka, redis = kafka_login(settings.kafka), redis_login(settings.redis)
        assert (kafka.mechanism, kafka.context is not None, redis.context is not None) == (None, True, True), part
        assert redis.arguments["ssl_certfile"] == authority["client.pem"]
        owner = "operator" if part == "topics" else part
        secrets = {one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
        assert secrets >= {f"kafka-{owner}", f"redis-{owner}", "kafka-cluster-ca-cert"}
        assert not any(name.endswith("PASSWORD_FILE") for name in said)
    asks = of_kind(made, "TriggerAuthentication")["headwater-serving"]["spec"]["secretTargetRef"]
    assert {one["parameter"]: one["name"] for one in asks} == {
        "cert": "kafka-serving", "key": "kafka-serving", "ca": "kafka-cluster-ca-cert",
    }  # fmt: skip


def test_topics_are_made_before_the_release_has_an_account_by_one_with_the_same_role() -> None:
    for role in ({}, {"role": "shop"}):
        found = rendered({"serviceAccount": {"annotations": role}})
        job = of_kind(found, "Job")["headwater-topics"]["spec"]["template"]["spec"]
        accounts = of_kind(found, "ServiceAccount")
        assert job["serviceAccountName"] == ("headwater-topics" if role else "default")
        assert ("headwater-topics" in accounts) == bool(role)
        if role:
            told = accounts["headwater-topics"]["metadata"]["annotations"]
            assert told["role"] == accounts["headwater"]["metadata"]["annotations"]["role"] == "shop"
            assert told["helm.sh/hook"] == "pre-install,pre-upgrade"
            assert int(told["helm.sh/hook-weight"]) < 0, "before the Job"


def test_the_page_may_ask_each_worker_for_its_figures(everything: list[dict[str, Any]]) -> None:
    told = json.loads(of_kind(everything, "ConfigMap")["headwater-page"]["data"]["workers.json"])["workers"]
    services = of_kind(everything, "Service")
    assert told.keys() == WORKERS
    for name, url in told.items():
        host, _, port = url.removeprefix("http://").partition(":")
        assert int(port) in [one["port"] for one in services[host]["spec"]["ports"]], name
    ports = of_kind(everything, "NetworkPolicy")["headwater-page"]["spec"]["egress"][1]["ports"]
    assert {one["port"] for one in ports} >= {9093, 443, 9100}
    known = rendered({**EVERYTHING, "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}]}})
    policy = of_kind(known, "NetworkPolicy")["headwater-trainer"]["spec"]["ingress"][0]
    assert policy["from"][1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "page"


def test_grpc_has_its_port_where_the_settings_open_it() -> None:
    for port in (None, 50051):
        found = rendered({"settings": {"gateway": {"grpc_port": port}}})
        container = pods(found)["gateway"]["containers"][0]
        opened = {one["name"]: one["containerPort"] for one in container["ports"]}
        served = {one["name"]: one["port"] for one in of_kind(found, "Service")["headwater-gateway"]["spec"]["ports"]}
        allowed = of_kind(found, "NetworkPolicy")["headwater-gateway"]["spec"]["ingress"][1]["ports"]
        assert opened.get("grpc") == served.get("grpc") == port
        assert {"port": "grpc", "protocol": "TCP"} in allowed or port is None
        said = [one["value"] for one in container["env"] if one["name"] == "HEADWATER_GATEWAY__GRPC_PORT"]
        assert said == ([] if port is None else [str(port)])


@pytest.mark.parametrize(
    ("address", "port"),
    [
        (None, 443),
        ("https://objects.example", 443),
        ("http://minio/", 80),
        ("http://minio:9000", 9000),
        ("http://minio:9000/", 9000),
        ("https://idp.example:8443/realms/shop/token", 8443),
    ],
)
def test_a_network_policy_lets_out_to_the_ports_that_addresses_name(address: str | None, port: int) -> None:
    def out(values: dict[str, Any], part: str) -> set[int]:
        policy = of_kind(rendered(values), "NetworkPolicy")[f"headwater-{part}"]["spec"]["egress"]
        return {one["port"] for one in policy[1]["ports"]}

    assert out({"objects": {"environment": {"AWS_ENDPOINT_URL": address}}}, "serving") == {9093, 6379, port}
    if address is not None and address.startswith("https:"):
        oauth = {"sasl_mechanism": "OAUTHBEARER", "sasl_token_url": address}
        assert out({"settings": {"kafka": oauth}}, "gateway") == {9093, port}


def test_who_asks_sentinels_for_the_store_is_let_out_to_both() -> None:
    redis = {"url": "redis://sentinel-0:26379,sentinel-1:26379/0", "sentinel": "main"}
    policy = of_kind(rendered({"settings": {"redis": redis}}), "NetworkPolicy")["headwater-streams"]["spec"]["egress"]
    assert {one["port"] for one in policy[1]["ports"]} == {9093, 26379, 6379}


def test_a_number_among_the_variables_is_said_as_it_was_written() -> None:
    many = {"OTEL_BSP_MAX_QUEUE_SIZE": 1_000_000}
    (pod,) = (one for part, one in pods(rendered({"environment": many})).items() if part == "gateway")
    assert {"name": "OTEL_BSP_MAX_QUEUE_SIZE", "value": "1000000"} in pod["containers"][0]["env"]


def test_users_that_strimzi_is_to_make_are_not_waited_for_by_the_job_before_them() -> None:
    with pytest.raises(helm_python.HelmRenderError, match="topics: strimzi"):
        rendered({"strimzi": {"users": True}})


def test_a_gateway_goes_on_for_as_long_as_its_balancer_needs_and_has_its_whole_drain_after_it() -> None:
    for leaves in (5, 30):
        values = {"workers": {"gateway": {"preStopSeconds": leaves}}, "settings": {"operations": {"drain_s": 7}}}
        found = pods(rendered(values))
        assert found["gateway"]["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": leaves}}}
        assert found["gateway"]["terminationGracePeriodSeconds"] == leaves + 20 + 7
        assert "lifecycle" not in found["streams"]["containers"][0]


def test_a_worker_may_have_an_image_of_its_own() -> None:
    found = pods(rendered({"workers": {"gateway": {"image": "shop/gateway:1"}}, "image": {"repository": "shop/all"}}))
    images = {part: pod["containers"][0]["image"] for part, pod in found.items()}
    assert images.pop("gateway") == "shop/gateway:1"
    assert set(images.values()) == {"shop/all:0.1.0"}


def test_what_every_part_is_told_besides_settings_reaches_it(everything: list[dict[str, Any]]) -> None:
    for pod in pods(everything).values():
        assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"} in pod["containers"][0]["env"]
