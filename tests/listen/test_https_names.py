"""Wherever a worker can be named, it can be named with https://."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from warmroute.config.backends import Backend, worker_url
from warmroute.config.names import parse_dns_name
from warmroute.config.sources import load_backends
from warmroute.discovery.objects import (
    Container,
    ContainerPort,
    Meta,
    Pod,
    PodSpec,
    PodStatus,
    Unclear,
    workers_of_pod,
)


def test_the_scheme_is_a_part_of_the_identity_and_has_its_own_port() -> None:
    assert worker_url("HTTPS://GPU1") == "https://gpu1:443"
    assert worker_url("https://[::1]:8443/") == "https://[::1]:8443"
    assert worker_url("http://gpu1") == "http://gpu1:80"
    with pytest.raises(ValueError, match="expected http://host:port or https://host:port"):
        worker_url("ftp://gpu1:21")


@pytest.mark.parametrize(
    "host",
    ["gpu1", "gpu_1.llm.svc.cluster.local.", "10.0.0.1", "[fd00::1]", "[fe80::1%eth0]", "xn--mnchen-3ya"],
)
def test_what_names_a_host_is_taken(host: str) -> None:
    assert worker_url(f"http://{host}:80") == f"http://{host}:80"


@pytest.mark.parametrize("name", ["engine.example", "localhost", "10.0.0.1", "fd00::1", "a_b-c.d1"])
def test_what_a_certificate_may_name_is_taken(name: str) -> None:
    assert Backend.parse(f"https://gpu1:1,tls_name={name}").tls_name == name


def test_a_backends_text_says_what_it_was_made_of() -> None:
    text = "https://10.0.0.1:8443,weight=2,tls_name=gpu1.example"
    assert str(Backend.parse(text)) == text
    with pytest.raises(ValidationError, match="tls_name is for workers with https://"):
        Backend.parse("http://10.0.0.1:8000,tls_name=gpu1.example")


def test_a_files_workers_keep_their_scheme(tmp_path: Path) -> None:
    file = tmp_path / "workers.yaml"
    file.write_text("backend: ['https://gpu1:8443,tls_name=gpu.example', 'http://gpu2:8000']")
    assert [str(backend) for backend in load_backends(file)] == [
        "https://gpu1:8443,tls_name=gpu.example",
        "http://gpu2:8000",
    ]


def test_workers_behind_a_dns_name_show_certificates_for_the_name() -> None:
    by_address = parse_dns_name("https://vllm.llm.svc:8443,weight=2")
    assert str(by_address.backend("10.0.0.1", 8443)) == "https://10.0.0.1:8443,weight=2,tls_name=vllm.llm.svc"
    named = parse_dns_name("https://vllm.llm.svc:8443,tls_name=gpu.example")
    assert named.backend("fd00::1", 8443).tls_name == "gpu.example"
    assert named.backend("fd00::1", 8443).url == "https://[fd00::1]:8443"
    plain = parse_dns_name("http://vllm.llm.svc:8000")
    assert plain == parse_dns_name("vllm.llm.svc:8000")
    assert plain.backend("10.0.0.1", 8000).tls_name is None
    with pytest.raises(ValueError, match="expected name:port"):
        parse_dns_name("ftp://vllm.llm.svc:8000")


def pod(**facts: str) -> Pod:
    annotations = {f"warmroute.io/{name.replace('_', '-')}": value for name, value in facts.items()}
    return Pod(
        Meta("vllm-0", annotations=annotations),
        PodSpec([Container([ContainerPort(8443)])]),
        PodStatus("Running", "10.0.0.1"),
    )


def test_a_pods_annotations_say_https_and_the_certificates_name() -> None:
    (seen,) = workers_of_pod(pod(scheme="https", tls_name="vllm.llm.svc"), None)
    assert str(seen.found.backend) == "https://10.0.0.1:8443,tls_name=vllm.llm.svc"
    (seen,) = workers_of_pod(pod(), None)
    assert seen.found.backend.url == "http://10.0.0.1:8443"
    with pytest.raises(Unclear, match="expected http or https"):
        workers_of_pod(pod(scheme="grpc"), None)
    with pytest.raises(Unclear, match="tls_name is for workers with https://"):
        workers_of_pod(pod(tls_name="x"), None)
