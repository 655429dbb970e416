"""Workers from DNS: addresses and SRV records, asked again as their TTL says; failures change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dns.rcode
import pytest

from found.dns_server import DnsServer, dns_server
from found.fleet import changes, discovery, wait_looked, wait_workers, workers
from found.recorder import reported
from found.traffic import traffic
from live.fake_worker import FakeWorker
from live.front import Front
from live.polling import eventually
from warmroute import cli
from warmroute.config.names import parse_dns_name
from warmroute.discovery.by_dns import DnsSource, resolver_for

NAME = "vllm.test"
FLOOR_S = 0.05


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as one:
        yield one


def source_of(server: DnsServer, text: str, *, ceiling_s: float = 0.1, gone_after: int = 3) -> DnsSource:
    return DnsSource(parse_dns_name(text), resolver_for(server.address), FLOOR_S, ceiling_s, gone_after)


def flags(server: DnsServer, *names: str) -> tuple[str, ...]:
    return (
        *("--discover-dns", *names, "--discover-dns-server", server.address),
        *("--discover-dns-min-interval-s", "0.1", "--discover-dns-max-interval-s", "0.2"),
    )


def test_no_request_is_lost_while_addresses_change(
    server: DnsServer, start_finder: Callable[..., Front], start_worker: Callable[..., FakeWorker]
) -> None:
    one = start_worker("127.0.0.2")
    two = start_worker("127.0.0.3", one.port)
    server.records[NAME, "A"] = ["127.0.0.2"]
    front = start_finder(*flags(server, f"{NAME}:{one.port},weight=2"))
    wait_workers(front, one.url)
    assert (workers(front)[one.url]["added_by"], workers(front)[one.url]["weight"]) == ("dns", 2.0)
    with traffic(front.router.url) as load:
        load.wait_answers()
        server.records[NAME, "A"] = ["127.0.0.2", "127.0.0.3"]
        load.wait_worker(two.url)
        server.records[NAME, "A"] = ["127.0.0.3"]
        wait_workers(front, two.url)
        one.stop_listening()
        load.wait_answers()


def test_a_server_that_fails_and_a_name_that_is_lost_for_a_moment_change_nothing(
    server: DnsServer, start_finder: Callable[..., Front], start_worker: Callable[..., FakeWorker]
) -> None:
    worker = start_worker()
    server.records[NAME, "A"] = ["127.0.0.1"]
    front = start_finder(*flags(server, f"{NAME}:{worker.port}"), "--discover-dns-gone-after", "1000")
    wait_workers(front, worker.url)
    with traffic(front.router.url) as load:
        server.fails = dns.rcode.SERVFAIL
        eventually(lambda: "SERVFAIL" in (discovery(front)["error"] or ""), "it failed")
        server.fails = None
        server.records.clear()
        eventually(lambda: "nothing is known" in (discovery(front)["error"] or ""), "it is not known")
        wait_looked(front, 3)
        load.wait_answers()
        assert workers(front).keys() == {worker.url}
    server.records[NAME, "A"] = ["127.0.0.1"]
    eventually(lambda: discovery(front)["error"] is None, "it is well again")
    assert len(changes(front)) == 1


def test_two_names_are_watched_on_their_own(
    server: DnsServer, start_finder: Callable[..., Front], start_worker: Callable[..., FakeWorker]
) -> None:
    one, two = start_worker(), start_worker()
    server.records["a.test", "A"] = server.records["b.test", "A"] = ["127.0.0.1"]
    front = start_finder(*flags(server, f"a.test:{one.port}", f"b.test:{two.port}"))
    wait_workers(front, one.url, two.url)
    assert [source["target"] for source in discovery(front)["sources"]] == [
        f"a.test:{one.port}",
        f"b.test:{two.port}",
    ]
    del server.records["a.test", "A"]
    wait_workers(front, two.url)


async def test_a_name_is_gone_only_when_nothing_was_known_of_it_several_times_in_a_row(
    server: DnsServer,
) -> None:
    server.records[NAME, "A"] = ["10.0.0.1"]
    async with reported(source_of(server, f"{NAME}:8000", gone_after=4)) as report:
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:8000"}, "the worker is found")
        server.records[NAME, "A"] = []  # the name is there, without records
        await report.wait(lambda r: r.sets[-1] == [], "it is gone")
    assert report.failures == ["nothing is known of the name"] * 3


async def test_time_outs_are_failures(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmroute.discovery.by_dns._TIMEOUT_S", 0.2)
    server.records[NAME, "A"] = ["10.0.0.1"]
    async with reported(source_of(server, f"{NAME}:8000")) as report:
        await report.wait(lambda r: r.ready, "the worker is found")
        server.silent = True
        await report.wait(lambda r: r.failures, "nobody answers")
        server.silent = False
        known = len(report.sets)
        await report.wait(lambda r: len(r.sets) > known, "somebody answers")
    assert all(report.sets), "no set was empty"


async def test_the_ttl_says_when_a_name_is_asked_again_within_floor_and_ceiling(server: DnsServer) -> None:
    server.records[NAME, "A"] = ["10.0.0.1"]
    server.ttl_s = 3600
    async with (
        reported(source_of(server, f"{NAME}:1", ceiling_s=3600.0)) as long,
        reported(source_of(server, f"{NAME}:2", ceiling_s=0.1)) as cut,
    ):
        await cut.wait(lambda r: len(r.sets) > 5, "the ceiling holds")
        assert len(long.sets) == 1, "an hour has not passed"
    server.ttl_s = 0
    async with reported(source_of(server, f"{NAME}:1", ceiling_s=3600.0)) as short:
        await short.wait(lambda r: len(r.sets) > 5, "the floor is what is left of a TTL of 0")


async def test_srv_records_bring_ports_and_only_the_lowest_priority_counts(server: DnsServer) -> None:
    name = "_http._tcp.vllm.test"
    server.records[name, "SRV"] = [
        "1 50 8001 a.test.",
        "1 50 8002 b.test.",
        "2 50 8003 a.test.",
        "1 50 8004 gone.test.",
    ]
    server.records["a.test", "A"] = ["10.0.0.1"]
    server.records["b.test", "A"] = ["10.0.0.2", "10.0.0.3"]
    async with reported(source_of(server, name)) as report:
        await report.wait(lambda r: r.sets, "an answer")
        assert report.ready == {"http://10.0.0.1:8001", "http://10.0.0.2:8002", "http://10.0.0.3:8002"}
        server.records[name, "SRV"] = ["2 50 8003 a.test."]
        await report.wait(lambda r: r.ready == {"http://10.0.0.1:8003"}, "the rest")


async def test_ipv6_counts_where_there_is_no_ipv4(server: DnsServer) -> None:
    server.records["both.test", "A"], server.records["both.test", "AAAA"] = ["10.0.0.1"], ["fd00::1"]
    server.records["six.test", "AAAA"] = ["fd00::1"]
    async with (
        reported(source_of(server, "both.test:80")) as both,
        reported(source_of(server, "six.test:80,model=m")) as six,
    ):
        await both.wait(lambda r: r.ready == {"http://10.0.0.1:80"}, "IPv4")
        await six.wait(lambda r: r.ready == {"http://[fd00::1]:80"}, "IPv6")
    assert six.sets[-1][0].backend.model == ("m",)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 53),
        ("10.0.0.1:5353", "10.0.0.1", 5353),
        ("fd00::1", "fd00::1", 53),
        ("[::1]", "::1", 53),
        ("[::1]:5353", "::1", 5353),
    ],
)
def test_a_server_may_have_a_port_and_brackets(text: str, address: str, port: int) -> None:
    resolver = resolver_for(text)
    assert (resolver.nameservers, resolver.port) == ([address], port)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--discover-dns", "vllm"), "expected name:port, or an SRV name"),
        (("--discover-dns", "vllm:0"), "expected a port from 1 to 65535"),
        (("--discover-dns", "vllm:80,speed=2"), "no option 'speed'"),
        (("--discover-dns", "vllm:80,preset=x"), "no latency preset"),
        (("--discover-dns", "10.0.0.1:80"), "use --backend http://10.0.0.1:80"),
        (("--discover-dns", "a:80", "a:80,weight=2"), "a:80 is listed twice"),
        *(
            (
                ("--discover-dns", "a:80", "--discover-dns-server", bad),
                f"expected an address or address:port, got {bad!r}",
            )
            for bad in (
                "dns.test",
                "[::1",
                "[]",
                "[::1]x",
                "10.0.0.1:0",
                "10.0.0.1:70000",
                "10.0.0.1:dns",
                ":53",
            )
        ),
        (("--discover-dns", "a:80", "--discover-dns-min-interval-s", "61"), "is above"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_the_start_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert cli.main(["serve", "--port", "0", *words]) == cli.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("router: error: ")
    assert complaint in line
