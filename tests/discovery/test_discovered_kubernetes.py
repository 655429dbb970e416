"""Workers in Kubernetes: the real client against an API server that does all that API servers do."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from found.api_server import (
    PODS,
    SLICES,
    ApiServer,
    api_server,
    endpoint,
    endpoint_slice,
    pod,
)
from found.fleet import changes, discovery, wait_workers, workers
from found.recorder import reported
from found.traffic import traffic
from live.fake_worker import Call, FakeWorker
from live.front import STREAM, Front
from live.polling import eventually, eventually_async
from live.wire import request
from warmroute import cli
from warmroute.discovery import by_pods, listwatch
from warmroute.discovery.by_pods import Cluster, KubernetesSource

Start = Callable[..., Front]
StartWorker = Callable[..., FakeWorker]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server() as one:
        yield one


@pytest.fixture
def pods(api: ApiServer, tmp_path: Path) -> KubernetesSource:
    """Watches pods with the label app=vllm."""
    return KubernetesSource(Cluster(api.kubeconfig(tmp_path)), None, "app=vllm", None, None)


@pytest.fixture
def service(api: ApiServer, tmp_path: Path) -> KubernetesSource:
    """Watches the Service vllm."""
    return KubernetesSource(Cluster(api.kubeconfig(tmp_path)), "vllm", "", None, "http")


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A server's, and in `ca.crt` what a client needs to believe it."""
    certificate, key = tmp_path / "ca.crt", tmp_path / "key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "1", "-subj", "/CN=cluster", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


async def watched(api: ApiServer, count: int = 1) -> None:
    """Until so many watches were begun."""

    async def there() -> bool:
        return len(api.watches) >= count

    await eventually_async(there, f"{count} watches")


def flags(api: ApiServer, folder: Path, *more: str) -> tuple[str, ...]:
    kubeconfig = str(api.kubeconfig(folder))
    return ("--discover-kubernetes-kubeconfig", kubeconfig, *(more or ("--selector", "app=vllm")))


# --- in front of traffic ------------------------------------------------------------------------


def test_no_request_is_lost_while_pods_join_pause_and_leave(
    api: ApiServer, tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    one, two = start_worker("127.0.0.2"), start_worker("127.0.0.3")
    api.put(PODS, pod("one", one.host, one.port))
    front = start_finder(*flags(api, tmp_path))
    wait_workers(front, one.url)
    assert workers(front)[one.url]["added_by"] == "kubernetes"
    with traffic(front.router.url) as load:
        load.wait_answers()
        api.put(PODS, pod("two", two.host, two.port, is_ready=False))
        api.put(PODS, pod("two", two.host, two.port))
        load.wait_worker(two.url)
        api.put(PODS, pod("one", one.host, one.port, is_ready=False))
        eventually(lambda: workers(front)[one.url]["draining"], "it is paused")
        assert workers(front)[one.url]["leaves_in_s"] is None, "paused, not on its way out"
        load.wait_answers()
        api.put(PODS, pod("one", one.host, one.port))
        load.wait_worker(one.url)
        api.put(PODS, pod("one", one.host, one.port, leaving=True))
        wait_workers(front, two.url)
        one.stop_listening()
        api.delete(PODS, "one")
        load.wait_answers()
    assert [change.get("added", 0) for change in changes(front)] == [1, 1, 0, 0, 0]


def test_a_pod_that_terminates_ends_its_answers_first(
    api: ApiServer, tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    stays, leaves = start_worker("127.0.0.2"), start_worker("127.0.0.3")
    api.put(SLICES, endpoint_slice("s", [endpoint(leaves.host, "a")], ("http", leaves.port)))
    front = start_finder(*flags(api, tmp_path, "--discover-kubernetes-service", "vllm"))
    wait_workers(front, leaves.url)
    release = threading.Event()

    def held(call: Call) -> None:
        call.stream()
        call.chunk(b"data: begin\n\n")
        call.hold(release)
        call.end()

    leaves.script = held
    with front.connect() as streaming:
        streaming.send(request("POST", "/v1/chat/completions", STREAM))
        eventually(lambda: leaves.calls, "the stream has begun")
        api.put(SLICES, endpoint_slice("t", [endpoint(stays.host, "b")], ("http", stays.port)))
        wait_workers(front, leaves.url, stays.url)
        last = endpoint(leaves.host, "a", is_ready=False, leaving=True)
        api.put(SLICES, endpoint_slice("s", [last], ("http", leaves.port)))
        eventually(lambda: workers(front)[leaves.url]["draining"], "it drains")
        with traffic(front.router.url) as load:
            load.wait_answers()
            api.put(SLICES, endpoint_slice("s", [], ("http", leaves.port)))
            load.wait_answers()
            assert workers(front)[leaves.url]["inflight_requests"] == 1
        release.set()
        assert streaming.answer().body == b"data: begin\n\n"
    wait_workers(front, stays.url)


def test_a_list_after_410_does_not_move_a_worker(
    api: ApiServer, tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    one, two = start_worker("127.0.0.2"), start_worker("127.0.0.3")
    api.put(PODS, pod("one", one.host, one.port))
    api.put(PODS, pod("two", two.host, two.port))
    front = start_finder(*flags(api, tmp_path))
    wait_workers(front, one.url, two.url)
    for _ in range(3):
        lists, watches = len(api.lists), len(api.watches)
        api.say_gone()
        eventually(lambda: len(api.lists) > lists and len(api.watches) > watches, "listed and watched")  # noqa: B023
    assert len(changes(front)) == 1, "the first list's"
    assert workers(front).keys() == {one.url, two.url}
    assert discovery(front)["error"] is None


def test_a_cluster_that_cannot_be_reached_keeps_its_workers(
    api: ApiServer, tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    worker = start_worker()
    api.put(PODS, pod("one", worker.host, worker.port))
    front = start_finder(*flags(api, tmp_path))
    wait_workers(front, worker.url)
    api.refusal = 403, 'pods is forbidden: User "router" cannot list resource "pods"'
    api.break_streams()
    eventually(lambda: "403 pods is forbidden" in (discovery(front)["error"] or ""), "it is refused")
    assert "list and watch" in discovery(front)["error"]
    assert front.ask().status == 200
    api.refusal = None
    eventually(lambda: discovery(front)["error"] is None, "it is well again")
    assert len(changes(front)) == 1
    # A cluster in which no pod is ready any more is believed later, if at all.
    api.put(PODS, pod("one", worker.host, worker.port, is_ready=False))
    eventually(
        lambda: "discovery finds no ready worker, all stay for now" in front.router.messages(), "it holds"
    )
    assert front.ask().status == 200
    api.put(PODS, pod("one", worker.host, worker.port))
    wait_workers(front, worker.url)


# --- list and watch -----------------------------------------------------------------------------


async def test_namespace_selector_token_and_bookmarks_are_asked_for_as_they_should(
    api: ApiServer, tmp_path: Path
) -> None:
    kubeconfig = api.kubeconfig(tmp_path, namespace="elsewhere")
    source = KubernetesSource(Cluster(kubeconfig), None, "app=vllm,role=decode", "llm", "8000")
    api.put(PODS, pod("yes", "10.0.0.1", labels={"app": "vllm", "role": "decode"}))
    api.put(PODS, pod("no", "10.0.0.2"))
    async with reported(source) as report:
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:8000"}, "one pod matches")
        await watched(api)
    listed, watch = api.lists[0], api.watches[0]
    assert {request.path for request in api.requests} == {PODS}
    assert listed.query["labelSelector"] == watch.query["labelSelector"] == "app=vllm,role=decode"
    assert listed.token == "secret"
    assert watch.query["resourceVersion"] == "102"
    assert watch.query["allowWatchBookmarks"] == "true"
    assert int(watch.query["timeoutSeconds"]) > 0


async def test_the_kubeconfigs_namespace_is_taken_where_none_is_named(
    api: ApiServer, service: KubernetesSource
) -> None:
    api.put(SLICES, endpoint_slice("a", [endpoint("10.0.0.1", "a")], ("http", 80)))
    api.put(SLICES, endpoint_slice("b", [endpoint("10.0.0.9", "b")], ("http", 80), service="other"))
    async with reported(service) as report:
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:80"}, "the Service's own")
    assert api.lists[0].path == SLICES


async def test_a_watch_that_breaks_in_a_line_goes_on_where_it_was(
    api: ApiServer, pods: KubernetesSource
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    api.put(PODS, pod("two", "10.0.0.2", 80))
    async with reported(pods) as report:
        await watched(api)
        api.put(PODS, pod("one", "10.0.0.1", 80, is_ready=False))
        await report.wait(lambda r: r.ready == {"http://10.0.0.2:80"}, "one is paused")
        with api.changed:  # what happens while nobody watches
            api.break_streams()
            api.delete(PODS, "one")
        await report.wait(lambda r: r.last == {"http://10.0.0.2:80": "READY"}, "one is gone")
    assert len(api.lists) == 1, "nothing was missed, so nothing is listed again"
    assert api.watches[-1].query["resourceVersion"] == "103"
    assert not report.failures


async def test_a_server_that_was_away_for_a_while_is_believed_again_before_anything_happens(
    api: ApiServer, pods: KubernetesSource
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    async with reported(pods) as report:
        await watched(api)
        api.deaf = True
        api.break_streams()
        await report.wait(lambda r: len(r.failures) > 1, "it is away")
        known = len(report.sets)
        api.deaf = False
        await report.wait(lambda r: len(r.sets) > known, "what was known is confirmed")
    assert len(api.lists) == 1
    assert all(report.sets), "nothing was removed"


async def test_a_bookmark_moves_the_version_from_which_a_watch_goes_on(
    api: ApiServer, pods: KubernetesSource
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    async with reported(pods):
        await watched(api)
        for _ in range(50):
            api.unrelated()
        with api.changed:
            api.bookmark()
            api.break_streams()
        await watched(api, 2)
    assert api.watches[1].query["resourceVersion"] == str(api.version)
    assert len(api.lists) == 1


@pytest.mark.parametrize("in_stream", [True, False])
async def test_gone_means_a_new_list_and_what_was_deleted_meanwhile_goes(
    api: ApiServer, pods: KubernetesSource, in_stream: bool
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    api.put(PODS, pod("two", "10.0.0.2", 80))
    async with reported(pods) as report:
        await watched(api)
        with api.changed:
            api.delete(PODS, "one")
            api.history.clear()  # its event is lost
            if in_stream:
                api.say_gone()
            else:
                api.compact()
                api.break_streams()
        await report.wait(lambda r: r.ready == {"http://10.0.0.2:80"}, "one is gone")
    assert len(api.lists) == 2
    assert not report.failures


async def test_other_errors_of_a_watch_are_told_and_end_in_a_new_list(
    api: ApiServer, pods: KubernetesSource
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    api.watch_refusal = 504  # "too large resource version", from a server that is behind
    async with reported(pods) as report:
        await report.wait(lambda r: len(r.failures) > 1, "it is told")
        assert "504 no watch for you" in report.failures[0]
        api.watch_refusal = 0
        await watched(api, len(api.watches) + 1)
        api.put(PODS, pod("two", "10.0.0.2", 80))
        await report.wait(lambda r: len(r.ready) == 2, "it watches again")


async def test_a_token_that_was_exchanged_is_read_again(
    api: ApiServer, pods: KubernetesSource, tmp_path: Path
) -> None:
    api.put(PODS, pod("one", "10.0.0.1", 80))
    async with reported(pods) as report:
        await watched(api)
        api.token = "rotated"
        api.break_streams()
        await report.wait(lambda r: any("401" in why for why in r.failures), "the old token is refused")
        (tmp_path / "token").write_text("rotated", encoding="utf-8")
        api.put(PODS, pod("two", "10.0.0.2", 80))
        await report.wait(lambda r: len(r.ready) == 2, "the new one is used")
    assert all(report.sets), "nothing was removed"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the cluster's certificate")
async def test_a_pod_of_the_cluster_uses_its_service_account(
    tmp_path: Path, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("mounted", encoding="utf-8")
    (tmp_path / "namespace").write_text("llm\n", encoding="utf-8")
    monkeypatch.setattr(by_pods, "_SERVICE_ACCOUNT", tmp_path)
    with api_server(certificate) as api:
        api.token = "mounted"
        where = urlsplit(api.url)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(where.hostname))
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(where.port))
        api.put(PODS, pod("one", "10.0.0.1", 80))
        async with reported(KubernetesSource(Cluster(None), None, "app=vllm", None, None)) as report:
            await report.wait(lambda r: r.ready == {"http://10.0.0.1:80"}, "its own namespace's pods")
            await watched(api)
            # The kubelet exchanges the token in its file before it ends.
            api.token = "exchanged"
            (tmp_path / "token").write_text("exchanged", encoding="utf-8")
            api.break_streams()
            api.put(PODS, pod("two", "10.0.0.2", 80))
            await report.wait(lambda r: len(r.ready) == 2, "the new token is used")


async def test_a_stream_may_come_byte_by_byte(api: ApiServer, pods: KubernetesSource) -> None:
    api.piecewise = True
    async with reported(pods) as report:
        await watched(api)
        api.put(PODS, pod("one", "10.0.0.1", 80, annotations={"note": "ä\\n{}"}))
        api.put(PODS, pod("two", "10.0.0.2", 80))
        await report.wait(lambda r: len(r.ready) == 2, "both are read")


async def test_a_watch_that_falls_silent_is_given_up_and_all_is_listed(
    api: ApiServer, pods: KubernetesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "_WATCH_S", (0, 0))
    monkeypatch.setattr(listwatch, "_WATCH_SLACK_S", 0.2)
    api.put(PODS, pod("one", "10.0.0.1", 80))
    async with reported(pods) as report:
        await watched(api)
        with api.changed:
            api.delete(PODS, "one")
            api.history.clear()
        await report.wait(lambda r: r.sets[-1] == [], "the list tells what the stream did not")


async def test_a_watch_that_looks_well_is_not_trusted_for_ever(
    api: ApiServer, pods: KubernetesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listwatch, "_RELIST_S", 0.0)
    async with reported(pods):
        await watched(api)
        api.break_streams()
        await watched(api, 2)
    assert len(api.lists) >= 2


async def test_many_pods_are_listed_page_by_page(api: ApiServer, pods: KubernetesSource) -> None:
    for number in range(120):
        api.put(PODS, pod(f"pod-{number}", f"10.0.1.{number}", 80))
    async with reported(pods) as report:
        await report.wait(lambda r: len(r.ready) == 120, "all are there")
        assert len(report.sets) == 1, "in one set"
    assert [request.query.get("continue") for request in api.lists] == [None, "50", "100"]


# --- what objects say ---------------------------------------------------------------------------


async def test_a_pod_is_ready_paused_leaving_or_not_there(api: ApiServer, pods: KubernetesSource) -> None:
    api.put(PODS, pod("ready", "10.0.0.1", 80))
    api.put(PODS, pod("not-ready", "10.0.0.2", 80, is_ready=False))
    api.put(PODS, pod("leaving", "10.0.0.3", 80, leaving=True))
    api.put(PODS, pod("starting", None, 80, phase="Pending", is_ready=False))
    api.put(PODS, pod("evicted", "10.0.0.5", 80, phase="Failed", is_ready=False))
    async with reported(pods) as report:
        await report.wait(lambda r: r.sets, "a list")
        assert report.last == {
            "http://10.0.0.1:80": "READY",
            "http://10.0.0.2:80": "PAUSED",
            "http://10.0.0.3:80": "LEAVING",
        }
        # The kubelet takes an evicted pod's address away; another selector's labels take a pod away.
        api.put(PODS, pod("ready", None, 80, phase="Failed", is_ready=False))
        api.put(PODS, pod("not-ready", "10.0.0.2", 80, labels={"app": "other"}))
        await report.wait(lambda r: r.last == {"http://10.0.0.3:80": "LEAVING"}, "both are gone")


async def test_endpoints_are_ready_paused_or_leaving_and_families_are_not_counted_twice(
    api: ApiServer, service: KubernetesSource
) -> None:
    ports = ("http", 8000), ("metrics", 9000)
    mixed = [
        endpoint("10.0.0.1", "a"),
        endpoint("10.0.0.2", "b", is_ready=False, serving=False),
        endpoint("10.0.0.3", "c", is_ready=False, leaving=True),
        endpoint("10.0.0.4", "d", is_ready=None),
    ]
    api.put(SLICES, endpoint_slice("four", mixed, *ports))
    six = [endpoint("fd00::1", "a"), endpoint("fd00::e", "e")]
    api.put(SLICES, endpoint_slice("six", six, *ports, family="IPv6"))
    api.put(SLICES, endpoint_slice("name", [endpoint("a.test", "f")], *ports, family="FQDN"))
    async with reported(service) as report:
        await report.wait(lambda r: r.sets, "a list")
        assert report.last == {
            "http://10.0.0.1:8000": "READY",
            "http://10.0.0.2:8000": "PAUSED",
            "http://10.0.0.3:8000": "LEAVING",
            "http://10.0.0.4:8000": "READY",
            "http://[fd00::e]:8000": "READY",
        }


async def test_annotations_tell_model_weight_port_and_ranks(api: ApiServer, pods: KubernetesSource) -> None:
    told = {
        "warmroute.io/model": "llama, llama-lora",
        "warmroute.io/weight": "2.5",
        "warmroute.io/dp-ranks": "3",
        "warmroute.io/port": "9000",
        "warmroute.io/kv-capacity-tokens": "5000",
    }
    api.put(PODS, pod("one", "10.0.0.1", 80, annotations=told))
    labelled = {"app": "vllm", "warmroute.io/weight": "3"}
    api.put(PODS, pod("two", "10.0.0.2", 80, labels=labelled))
    async with reported(pods) as report:
        await report.wait(lambda r: r.sets, "a list")
        found = {str(one.backend) for one in report.sets[-1]}
    options = "model=llama,model=llama-lora,weight=2.5,kv_capacity_tokens=5000"
    assert found == {
        *(f"http://10.0.0.1:{port},{options}" for port in (9000, 9001, 9002)),
        "http://10.0.0.2:80,weight=3",
    }


async def test_a_services_labels_hold_for_all_its_endpoints(
    api: ApiServer, service: KubernetesSource
) -> None:
    part = endpoint_slice(
        "a", [endpoint("10.0.0.1", "a")], ("http", 80), labels={"warmroute.io/dp-ranks": "2"}
    )
    api.put(SLICES, part)
    async with reported(service) as report:
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:80", "http://10.0.0.1:81"}, "two ranks")


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (pod("p", "10.0.0.1"), "declares no port: set discover_kubernetes_port"),
        (pod("p", "10.0.0.1", 80, 81), "declares several ports (80, 81)"),
        (pod("p", "10.0.0.1", 80, annotations={"warmroute.io/weight": "fast"}), "warmroute.io/weight"),
        (pod("p", "10.0.0.1", 80, annotations={"warmroute.io/dp-ranks": "0"}), "from 1 to 64, got '0'"),
        (pod("p", "10.0.0.1", 80, annotations={"warmroute.io/preset": "x"}), "no latency preset"),
        (pod("p", "10.0.0.1", 65535, annotations={"warmroute.io/dp-ranks": "2"}), "expected a port"),
    ],
)
async def test_a_pod_that_is_unclear_is_named_once_and_takes_nothing_with_it(
    api: ApiServer,
    pods: KubernetesSource,
    caplog: pytest.LogCaptureFixture,
    thing: dict[str, object],
    words: str,
) -> None:
    api.put(PODS, pod("good", "10.0.0.2", 80))
    api.put(PODS, pod("p", "10.0.0.1", 80))
    async with reported(pods) as report:
        await report.wait(lambda r: len(r.ready) == 2, "both are clear")
        await watched(api)
        api.put(PODS, thing)
        api.put(PODS, thing)
        api.put(PODS, pod("last", "10.0.0.3", 80))
        await report.wait(lambda r: len(r.ready) == 3, "the unclear one is kept as it was")
    (complaint,) = [record for record in caplog.records if "cannot tell" in record.message]
    assert words in complaint.__dict__["why"]


async def test_a_port_may_be_named(api: ApiServer, tmp_path: Path) -> None:
    source = KubernetesSource(Cluster(api.kubeconfig(tmp_path)), None, "app=vllm", None, "http")
    api.put(PODS, pod("one", "10.0.0.1", ("metrics", 9000), ("http", 8000)))
    async with reported(source) as report:
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:8000"}, "the named port")


def test_ranks_of_one_pod_are_workers_that_get_requests(
    api: ApiServer, tmp_path: Path, start_finder: Start, start_worker: StartWorker
) -> None:
    first, second = two_in_a_row(start_worker)
    api.put(PODS, pod("one", first.host, first.port, annotations={"warmroute.io/dp-ranks": "2"}))
    front = start_finder(*flags(api, tmp_path))
    wait_workers(front, first.url, second.url)
    with traffic(front.router.url) as load:
        load.wait_worker(first.url)
        load.wait_worker(second.url)


def two_in_a_row(start_worker: StartWorker) -> tuple[FakeWorker, FakeWorker]:
    """Workers on consecutive ports of one address."""
    for _ in range(50):
        with socket.create_server(("127.0.0.9", 0)) as probe:
            port = probe.getsockname()[1]
        try:
            first = start_worker("127.0.0.9", port)
            return first, start_worker("127.0.0.9", port + 1)
        except (OSError, OverflowError):
            continue
    raise AssertionError("no two ports in a row are free")


# --- at the start -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--selector", "a=b", "--discover-kubernetes-service", "c"), "set one of them"),
        (("--selector", "a=b", "--discover-kubernetes-port", "70000"), "expected a name or 1 to 65535"),
        (("--selector", "a=b", "--discover-kubernetes-kubeconfig", "/nowhere"), "no kubeconfig at /nowhere"),
        (("--selector", "a=b", "--discover-kubernetes-kubeconfig", "/etc/hosts"), "expected a kubeconfig"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert cli.main(["serve", "--port", "0", *words]) == cli.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    ("extra", "module", "words"),
    [
        ("dns", "dns.asyncresolver", ("--discover-dns", "a:80")),
        ("kubernetes", "kubernetes_asyncio.client.api_client", ("--selector", "a=b")),
    ],
)
def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    extra: str,
    module: str,
    words: tuple[str, ...],
) -> None:
    for name in ("by_dns", "by_pods", "listwatch"):
        monkeypatch.delitem(sys.modules, f"warmroute.discovery.{name}", raising=False)
        monkeypatch.delattr(f"warmroute.discovery.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["serve", "--port", "0", *words]) == cli.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"pip install 'warmroute[{extra}]'")
