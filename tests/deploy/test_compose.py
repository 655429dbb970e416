"""The compose files, read by Docker Compose itself, and what their services are told by who is told it."""

from __future__ import annotations

import argparse
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deployed.dockerfile import ROOT, stages
from deployed.settings import accepted
from deployed.tools import fetched, output
from warmroute.config.backends import worker_url
from warmroute_simulator.commands import serve

DEPLOY: Final = ROOT / "deploy"
EMULATED: Final = (DEPLOY / "compose.yaml",)
WITH_GPUS: Final = (DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml")

Service = dict[str, Any]


@cache
def project(files: tuple[Path, ...]) -> dict[str, Any]:
    """What Docker Compose makes of the files, every profile included."""
    named = [word for file in files for word in ("--file", str(file))]
    text = output(fetched("docker-compose"), *named, "--profile", "*", "config", "--format", "json")
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture(params=[EMULATED, WITH_GPUS], ids=["emulated", "gpu"])
def services(request: pytest.FixtureRequest) -> dict[str, Service]:
    """The services of each project in turn."""
    return dict(project(request.param)["services"])


def seconds(text: str) -> float:
    """A duration as Docker Compose prints it: 1m10s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))


def router_variables(service: Service) -> dict[str, str]:
    """What its container starts with: the image's variables and the file's."""
    given: dict[str, str] = service["environment"]
    return stages()[-1].variables() | given


def test_every_image_has_a_version(services: dict[str, Service]) -> None:
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), service["image"]


def test_every_service_gives_up_its_privileges(services: dict[str, Service]) -> None:
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")
        assert service["logging"]["options"]["max-size"]


def test_without_gpus_every_service_is_read_only_and_limited() -> None:
    for service in project(EMULATED)["services"].values():
        assert service["read_only"] is True
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}


def test_ports_are_open_on_the_loopback_alone(services: dict[str, Service]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["target"] for port in published} == {30000, 9090, 3000}
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_engines_are_reached_through_the_router_only() -> None:
    document = project(EMULATED)
    assert document["networks"]["engines"]["internal"] is True
    engines = [
        service for service in document["services"].values() if service.get("entrypoint") == ["simulator"]
    ]
    assert len(engines) == 3
    assert all(service["networks"].keys() == {"engines"} for service in engines)


def test_whoever_is_waited_for_tells_whether_it_is_healthy(services: dict[str, Service]) -> None:
    waited = {name for service in services.values() for name in service.get("depends_on", {})}
    for service in services.values():
        assert all(item["condition"] == "service_healthy" for item in service.get("depends_on", {}).values())
    for name in waited - {"router"}:
        assert services[name]["healthcheck"]["test"]
    assert stages()[-1].all("HEALTHCHECK")  # the router's comes with its image


def test_whatever_is_mounted_exists_and_is_read_only(services: dict[str, Service]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    binds = [mount for mount in mounts if mount["type"] == "bind"]
    assert binds
    for mount in binds:
        assert Path(mount["source"]).exists(), mount["source"]
        assert mount["read_only"] is True


def test_the_router_accepts_its_variables_and_is_given_the_time_it_takes(
    services: dict[str, Service],
) -> None:
    router = services["router"]
    told = accepted(variables=router_variables(router))
    assert seconds(router["stop_grace_period"]) > told["shutdown_grace_s"]
    memory = int(router["deploy"]["resources"]["limits"]["memory"])
    assert told["index_max_bytes"] + told["max_buffered_bytes"] <= memory / 2
    assert router["ports"][0]["target"] == told["port"]


def test_the_routers_workers_are_services_of_the_project_and_waited_for(services: dict[str, Service]) -> None:
    router = services["router"]
    workers = [worker_url(word) for word in router["environment"]["ROUTER_BACKEND"].split()]
    names = {url.removeprefix("http://").partition(":")[0] for url in workers}
    assert names == router["depends_on"].keys() <= services.keys()
    for name in names:
        assert "engines" in services[name]["networks"]["engines"]["aliases"]


def test_emulated_engines_understand_their_command_and_listen_where_they_are_asked() -> None:
    for service in project(EMULATED)["services"].values():
        if service.get("entrypoint") == ["simulator"]:
            command, *words = service["command"]
            assert command == "serve"
            parser = argparse.ArgumentParser()
            serve.add_arguments(parser)
            options = serve._options(parser.parse_args(words))
            assert (options.workers, options.host, options.port) == (1, "0.0.0.0", 8000)


def test_engines_on_gpus_tell_what_the_router_learns_from() -> None:
    services = project(WITH_GPUS)["services"]
    wanted = {
        "vllm": ("--enable-prefix-caching", "--enable-prompt-tokens-details", "--port=8000"),
        "sglang": ("--enable-cache-report", "--enable-metrics", "--port=8000"),
    }
    cards = []
    for engine, flags in wanted.items():
        for number in (1, 2):
            service = services[f"{engine}-{number}"]
            assert set(flags) <= set(service["command"])
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert device["driver"] == "nvidia"
            assert device["capabilities"] == ["gpu"]
            cards += device["device_ids"]
    assert sorted(cards) == ["0", "1", "2", "3"]
    assert not [name for name in services if name.startswith("engine-")]


def test_prometheus_reads_the_router_the_engines_and_rules_that_are_mounted() -> None:
    service = project(EMULATED)["services"]["prometheus"]
    mounted = {mount["target"]: Path(mount["source"]) for mount in service["volumes"] if "source" in mount}
    (file,) = [word.partition("=")[2] for word in service["command"] if word.startswith("--config.file")]
    config = yaml.safe_load(mounted[file].read_text(encoding="utf-8"))
    (pattern,) = config["rule_files"]
    folder, _, names = pattern.rpartition("/")
    assert list(mounted[folder].glob(names))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["warmroute-router"]["static_configs"] == [{"targets": ["router:30000"]}]
    assert jobs["engines"]["dns_sd_configs"][0]["names"] == ["engines"]
    assert jobs["engines"]["dns_sd_configs"][0]["port"] == 8000


def test_grafana_finds_its_data_source_and_the_dashboards() -> None:
    services = project(EMULATED)["services"]
    mounted = {mount["target"]: Path(mount["source"]) for mount in services["grafana"]["volumes"]}
    provisioning = mounted["/etc/grafana/provisioning"]
    (sources,) = (provisioning / "datasources").glob("*.yaml")
    (source,) = yaml.safe_load(sources.read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert services["grafana"]["networks"].keys() & services["prometheus"]["networks"].keys()
    (providers,) = (provisioning / "dashboards").glob("*.yaml")
    (provider,) = yaml.safe_load(providers.read_text(encoding="utf-8"))["providers"]
    assert list(mounted[provider["options"]["path"]].glob("*.json"))
