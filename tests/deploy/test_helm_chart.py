"""The chart, rendered by Helm: valid for the Kubernetes that it names, and as careful as it says."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deployed.chart import CHART, Manifest, Rendered, rendered
from deployed.dockerfile import stages
from deployed.settings import accepted
from deployed.tools import fetched, output
from warmroute.config.settings import FIELDS

VALUES = [CHART / "values.yaml", *sorted((CHART / "ci").glob("*-values.yaml"))]

# The oldest that Chart.yaml allows, and the newest whose schemas the validator brings.
KUBERNETES = ("1.25", kubernetes_validate.latest_version())

# Of operators, whose schemas no cluster brings by itself: what they say is claimed below.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


@cache
def chart(path: Path) -> Rendered:
    return rendered(path)


def example(name: str) -> Rendered:
    return chart(CHART / "ci" / f"{name}-values.yaml")


@pytest.fixture(params=VALUES, ids=lambda path: path.name.removesuffix(".yaml"))
def every(request: pytest.FixtureRequest) -> Rendered:
    """Each set of values in turn."""
    return chart(request.param)


def settings(of: Rendered, folder: Path) -> dict[str, Any]:
    """What the router makes of the pod's file, flags and variables."""
    container = of.container
    file = folder / "router.yaml"
    file.write_text(of.file("router.yaml"), encoding="utf-8")
    flags = [str(file) if word == "/etc/warmroute/router.yaml" else word for word in container["args"]]
    variables = {item["name"]: item.get("value", "key-of-a-secret") for item in container["env"]}
    return accepted(*flags, variables=stages()[-1].variables() | variables)


def test_helms_own_linter_has_nothing_to_say() -> None:
    for values in (VALUES[0], CHART / "ci" / "everything-values.yaml"):
        text = output(fetched("helm"), "lint", CHART, "--strict", "--values", values)
        assert "0 chart(s) failed" in text, text


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid_by_the_clusters_schema(every: Rendered, version: str) -> None:
    for manifest in every.manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_router_accepts_what_the_chart_tells_it(every: Rendered, tmp_path: Path) -> None:
    told = settings(every, tmp_path)
    assert told["host"] == "0.0.0.0"
    assert told["port"] == every.container["ports"][0]["containerPort"]
    pod = every.pod["spec"]
    stop = every.container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > told["shutdown_grace_s"] + int(stop[1])


def test_nothing_runs_as_root_with_privileges_or_on_a_root_that_can_be_written(every: Rendered) -> None:
    for pod in every.pod_specs():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"{pod['securityContext']['runAsUser']}" == stages()[-1].all("USER")[0].partition(":")[0]
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_probes_ask_paths_that_the_router_has(every: Rendered) -> None:
    from warmroute.app import build
    from warmroute.config import Settings
    from warmroute.control.health import endpoints

    served = {getattr(route, "path", "") for route in endpoints(build(Settings())).routes}
    probes = [every.container[name]["httpGet"] for name in PROBES]
    assert {probe["path"] for probe in probes} == {"/liveness", "/readiness"} <= served
    assert {probe["port"] for probe in probes} == {every.container["ports"][0]["name"]}


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def test_who_asks_a_router_with_a_certificate_asks_by_https(tmp_path: Path) -> None:
    found = example("tls")
    assert {found.container[name]["httpGet"]["scheme"] for name in PROBES} == {"HTTPS"}
    assert found.one("ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"
    (test,) = [item for item in found.manifests if item["kind"] == "Pod"]
    assert test["spec"]["containers"][0]["command"][-1].startswith("https://")
    told = settings(found, tmp_path)
    assert (told["tls_cert"], told["state_file"]) == ("/tls/tls.crt", "/state/router")
    mounted = [item["mountPath"] for item in found.container["volumeMounts"]]
    assert {"/tls", "/state"} <= set(mounted)


@pytest.mark.parametrize("needs", ["config.tls_client_ca=/tls/ca.crt", "config.proxy_protocol=true"])
def test_where_the_kubelet_cannot_ask_it_connects(needs: str) -> None:
    """It has no certificate to show, and sends no head of the PROXY protocol."""
    found = rendered(CHART / "ci" / "tls-values.yaml", needs)
    for name in PROBES:
        assert found.container[name]["tcpSocket"] == {"port": "http"}
        assert "httpGet" not in found.container[name]


def test_selectors_find_the_routers_and_not_the_pod_of_helm_test(every: Rendered) -> None:
    labels = every.pod["metadata"]["labels"]
    selectors = [every.one("Service")["spec"]["selector"]]
    for kind in ("Deployment", "PodDisruptionBudget"):
        selectors += [item["spec"]["selector"]["matchLabels"] for item in every.all(kind)]
    selectors += [item["spec"]["podSelector"]["matchLabels"] for item in every.all("NetworkPolicy")]
    (test,) = [item for item in every.manifests if item["kind"] == "Pod"]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= test["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("name", "namespace", "rule"),
    [
        ("service", "inference", (["discovery.k8s.io"], ["endpointslices"])),
        ("pods", "edge", ([""], ["pods"])),
    ],
)
def test_discovery_in_a_cluster_may_list_and_watch_what_it_reads_and_nothing_else(
    name: str, namespace: str, rule: tuple[list[str], list[str]]
) -> None:
    found = example(name)
    role, binding = found.one("Role"), found.one("RoleBinding")
    groups, resources = rule
    assert role["rules"] == [{"apiGroups": groups, "resources": resources, "verbs": ["list", "watch"]}]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == namespace
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = found.one("ServiceAccount")["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "edge"}]
    assert found.pod["spec"]["serviceAccountName"] == account
    assert found.pod["spec"]["automountServiceAccountToken"] is True


@pytest.mark.parametrize("name", ["static", "several-routers", "file", "dns"])
def test_without_discovery_in_a_cluster_there_is_neither_a_role_nor_a_token(name: str) -> None:
    found = example(name)
    assert not found.all("Role") + found.all("RoleBinding")
    assert found.pod["spec"]["automountServiceAccountToken"] is False


def test_no_role_is_the_clusters_and_no_rule_has_a_wildcard(every: Rendered) -> None:
    assert not every.all("ClusterRole") + every.all("ClusterRoleBinding")
    assert "*" not in json.dumps([role["rules"] for role in every.all("Role")])


def test_discovery_becomes_the_routers_own_settings(tmp_path: Path) -> None:
    service = settings(example("service"), tmp_path)
    assert service["discover_kubernetes_service"] == "vllm"
    assert service["discover_kubernetes_namespace"] == "inference"
    assert service["discover_kubernetes_port"] == "http"
    pods = settings(example("pods"), tmp_path)
    assert pods["discover_kubernetes_selector"] == ["app=vllm", "role=decode"]
    assert pods["discover_kubernetes_namespace"] == "edge"
    assert settings(example("dns"), tmp_path)["discover_dns"]


def test_listed_workers_and_keys_arrive(tmp_path: Path) -> None:
    told = settings(example("static"), tmp_path)
    assert [worker["url"] for worker in told["backend"]] == [
        "http://gpu1.example.internal:8000",
        "http://gpu2.example.internal:8000",
    ]
    assert told["backend"][1]["weight"] == 2
    assert told["policy_param"] == {"miss_price": 2.5}
    assert len(told["api_key"]) == len(told["admin_api_key"]) == 1
    assert "key" not in example("static").file("router.yaml")


def test_a_watched_list_of_workers_is_mounted_as_a_folder_and_restarts_nothing() -> None:
    before, after = (
        example("file"),
        rendered(CHART / "ci" / "file-values.yaml", "backends[0]=http://new:8000"),
    )
    listed = yaml.safe_load(before.file("backends.yaml"))
    assert listed == {"backend": ["http://gpu1:8000", {"url": "http://gpu2:8000", "weight": 2}]}
    (mount,) = [item for item in before.container["volumeMounts"] if item["name"] == "backends"]
    assert "subPath" not in mount
    assert yaml.safe_load(before.file("router.yaml"))["discover_file"].startswith(f"{mount['mountPath']}/")
    assert before.file("backends.yaml") != after.file("backends.yaml")
    assert before.pod == after.pod


def test_another_configuration_restarts_the_routers() -> None:
    assert example("static").pod != rendered(CHART / "ci" / "static-values.yaml", "config.retries=7").pod


def test_several_routers_know_how_many_they_are_and_keep_a_client_on_one(tmp_path: Path) -> None:
    found = example("several-routers")
    assert found.one("Deployment")["spec"]["replicas"] == 3
    assert settings(found, tmp_path)["replicas"] == 3
    assert found.one("Service")["spec"]["sessionAffinity"] == "ClientIP"
    assert found.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    alone = example("static")
    assert alone.one("Service")["spec"]["sessionAffinity"] == "None"
    assert not alone.all("PodDisruptionBudget")


def test_a_number_of_routers_that_changes_is_the_autoscalers(tmp_path: Path) -> None:
    found = example("everything")
    assert "replicas" not in found.one("Deployment")["spec"]
    assert found.one("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3
    assert settings(found, tmp_path)["replicas"] == 3


def test_the_network_policy_lets_out_what_the_router_asks() -> None:
    (policy,) = example("everything").all("NetworkPolicy")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 8000, 8001, 443, 6443, 4318}
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert policy["spec"]["ingress"][0]["from"]


def test_dashboards_and_rules_are_those_of_the_repository() -> None:
    found = example("everything")
    root = CHART.parents[2]
    boards = {path.name: path for path in (root / "grafana" / "dashboards").glob("*.json")}
    assert boards
    for name, path in boards.items():
        assert found.file(name) == path.read_text(encoding="utf-8")
    groups = [
        group
        for path in sorted((root / "grafana" / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    assert groups
    assert found.one("PrometheusRule")["spec"]["groups"] == groups
    assert not example("static").all("PrometheusRule")


def test_prometheus_finds_the_routers_under_the_name_that_alerts_ask_for() -> None:
    found = example("everything")
    monitor: Manifest = found.one("ServiceMonitor")
    service = found.one("Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    assert "router" in endpoint["relabelings"][0]["replacement"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("config.port=1", "config.port: use port"),
        ("config.api_key=secret", "config.api_key: use apiKeys.existingSecret"),
        ("discovery.kind=service", "discovery.service: the name of the workers' Service"),
        ("discovery.kind=etcd", "discovery"),
        ("replica=3", "replica"),
        ("backends[0]=gpu1:8000", "backends"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(value: str, words: str) -> None:
    fetched("helm")
    with pytest.raises(AssertionError) as caught:
        rendered(value)
    assert words in str(caught.value)


def test_a_setting_that_the_chart_keeps_for_itself_exists() -> None:
    text = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "$elsewhere := dict" in line]
    names = line.split('"')[1::4]
    assert len(names) == 6
    assert set(names) <= FIELDS.keys()
