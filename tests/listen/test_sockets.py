"""Where the router listens: Unix sockets, addresses of both families, names, sockets that it was passed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from listen.conftest import QUICK
from live.fake_worker import FakeWorker
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.processes import Process, Router, ready_router
from live.wire import Connection, socket_to

StartFront = Callable[..., Front]
StartRouter = Callable[..., Router]

ipv6 = pytest.mark.skipif(
    not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here"
)


def spawn(log: Path, *flags: str) -> Router:
    """A router that is told neither address nor port."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "warmroute", "--log-format", "json", *QUICK, *flags],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent,
        )  # fmt: skip
    return ready_router(process, log)


def status(url: str, method: str = "GET", path: str = "/health", body: object = None) -> int:
    with Connection(url) as connection:
        return connection.ask(method, path, body).status


# --- Unix sockets ---------------------------------------------------------------------------------


def test_a_path_alone_is_all_that_is_listened_on_and_is_removed_at_the_end(
    tmp_path: Path, start_worker: Callable[..., FakeWorker]
) -> None:
    path = tmp_path / "r.sock"
    router = spawn(tmp_path / "r.log", "--uds", str(path), "--access-log", "--backend", start_worker().url)
    try:
        assert router.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with Connection(router.url) as connection:
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
            assert connection.ask("GET", "/ui").status == 200
            assert connection.ask("GET", "/workers").json()["total"] == 1
        listening = Path(f"/proc/{router.pid}/net/tcp").exists() and _listens_on_tcp(router.pid)
        assert not listening
        assert eventually(lambda: _clients(router), "it is logged") == ["unix"]
        router.terminate()
        assert router.wait() == 0
        assert not path.exists()
    finally:
        router.kill()
    assert not router.faults()


def _listens_on_tcp(pid: int) -> bool:
    own = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in own for line in lines)


def test_a_port_that_is_named_beside_the_path_is_listened_on_as_well(
    start_router: StartRouter, tmp_path: Path
) -> None:
    path = tmp_path / "r.sock"
    router = start_router("--uds", str(path), "--uds-mode", "600")
    (ready,) = [line for line in router.lines() if line["message"] == "router ready"]
    assert router.url == f"unix:{path}"
    (tcp,) = ready["also"]
    assert [status(router.url), status(tcp)] == [200, 200]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_name_of_a_dead_router_is_replaced_and_that_of_a_live_one_is_not(
    start_router: StartRouter, tmp_path: Path
) -> None:
    path = tmp_path / "r.sock"
    first = start_router("--uds", str(path))
    with pytest.raises(AssertionError, match=r"cannot listen on .*r.sock: Address already in use"):
        start_router("--uds", str(path))
    assert status(first.url) == 200
    first.kill()
    assert path.exists()
    second = start_router("--uds", str(path))
    assert status(second.url) == 200


def test_a_file_that_is_no_socket_is_left_alone(start_router: StartRouter, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AssertionError, match="is no socket"):
        start_router("--uds", str(path))
    assert path.read_text() == "data"


def test_a_new_router_takes_the_name_over_and_the_old_one_leaves_it_there(
    start_router: StartRouter, start_worker: Callable[..., FakeWorker], tmp_path: Path
) -> None:
    path, worker = tmp_path / "r.sock", start_worker()
    port = socket.create_server(("127.0.0.1", 0))
    number = str(port.getsockname()[1])
    port.close()
    flags = ("--uds", str(path), "--reuse-port", "--port", number, "--backend", worker.url)
    old = start_router(*flags, "--shutdown-idle-s", "0.1")
    with Connection(old.url) as kept:
        assert kept.ask("GET", "/health").status == 200
        start_router(*flags)
        assert kept.ask("GET", "/health").status == 200
        old.terminate()
        assert kept.at_end()
    assert old.wait() == 0
    assert status(f"unix:{path}", "POST", CHAT_PATH, CHAT) == 200


def test_a_mode_that_is_not_octal_is_refused(tmp_path: Path) -> None:
    for mode in ("rw", "999", "0x1b0", "66"):
        ended = subprocess.run(
            [sys.executable, "-m", "warmroute", "config", "--uds", "x.sock", "--uds-mode", mode],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 2
        assert "three octal digits" in ended.stderr


# --- addresses ------------------------------------------------------------------------------------


def _clients(router: Router) -> list[str]:
    return [line["client"] for line in router.lines() if line["message"] == "request"]


@ipv6
def test_the_ipv6_wildcard_serves_both_families_and_says_who_came(start_front: StartFront) -> None:
    front = start_front("--host", "::", "--access-log")
    assert front.router.url == f"http://[::]:{front.router.port}"
    for host in ("[::1]", "127.0.0.1"):
        assert status(f"http://{host}:{front.router.port}", "POST", CHAT_PATH, CHAT) == 200
    clients = eventually(
        lambda: (
            [line["client"] for line in front.router.lines() if line["message"] == "request"][1:]
            and [line["client"] for line in front.router.lines() if line["message"] == "request"]
        ),
        "both are logged",
    )
    assert clients == ["::1", "127.0.0.1"]


@ipv6
def test_one_ipv6_address_is_that_address(start_front: StartFront) -> None:
    front = start_front("--host", "::1")
    assert front.router.url == f"http://[::1]:{front.router.port}"
    assert front.ask().status == 200
    with pytest.raises(ConnectionRefusedError):
        socket_to(f"http://127.0.0.1:{front.router.port}")


@ipv6
def test_a_worker_at_an_ipv6_address_is_reached_and_known_by_its_url(
    start_router: StartRouter, start_worker: Callable[..., FakeWorker]
) -> None:
    worker = start_worker("::1")
    router = start_router("--backend", worker.url)
    front = Front(router, [worker])
    answer = front.ask()
    assert answer.headers["x-router-worker"] == worker.url == f"http://[::1]:{worker.port}"
    assert worker.calls[0].headers["host"] == f"[::1]:{worker.port}"
    assert front.worker_state(worker)["status"] == "healthy"
    for path in (worker.url, f"[::1]:{worker.port}", worker.url.replace("/", "%2F").replace(":", "%3A")):
        assert httpx.get(f"{router.url}/workers/{path}", trust_env=False).status_code == 200


@ipv6
def test_a_hand_over_works_on_the_ipv6_wildcard(
    start_router: StartRouter, start_worker: Callable[..., FakeWorker]
) -> None:
    worker = start_worker()
    probe = socket.create_server(("::1", 0), family=socket.AF_INET6)
    flags = ("--host", "::", "--port", str(probe.getsockname()[1]), "--reuse-port", "--backend", worker.url)
    probe.close()
    old = start_router(*flags, "--shutdown-idle-s", "0.1")
    start_router(*flags)
    old.terminate()
    failed = 0
    while old.process.poll() is None:
        failed += status(f"http://[::1]:{old.port}") != 200
    assert old.wait() == 0
    assert not failed


def test_a_name_with_several_addresses_is_listened_on_at_each_with_one_port(
    start_router: StartRouter,
) -> None:
    router = start_router("--host", "localhost")
    (ready,) = [line for line in router.lines() if line["message"] == "router ready"]
    urls = [ready["url"], *ready.get("also", [])]
    expected = {info[4][0] for info in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    hosts = {httpx.URL(url).host for url in urls}
    assert hosts
    assert hosts <= expected
    assert len({httpx.URL(url).port for url in urls}) == 1
    assert [status(url) for url in urls] == [200] * len(urls)


def test_an_address_that_cannot_be_had_ends_the_router_with_a_line(start_router: StartRouter) -> None:
    for host, why in (("192.0.2.1", "Cannot assign"), ("no.such.name.invalid", "no.such.name.invalid")):
        with pytest.raises(AssertionError, match=f"cannot listen on .*{why}"):
            start_router("--host", host)


# --- passed on by a supervisor ----------------------------------------------------------------------

_TRAMPOLINE = """\
import os, sys
for place, number in enumerate(sys.argv[1].split(","), start=3):
    os.dup2(int(number), place + 50)
for place in range(len(sys.argv[1].split(","))):
    os.dup2(place + 53, place + 3)
    os.close(place + 53)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sys.argv[1].split(","))))
os.execv(sys.executable, [sys.executable, "-m", "warmroute", *sys.argv[2:]])
"""


def activated(log: Path, sockets: list[socket.socket], *flags: str) -> subprocess.Popen[bytes]:
    """A router that is given these sockets as systemd does it."""
    numbers = [one.fileno() for one in sockets]
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", _TRAMPOLINE, ",".join(map(str, numbers)), "--log-format", "json",
             *QUICK, *flags],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=numbers,
            cwd=log.parent,
        )  # fmt: skip


def test_sockets_that_were_passed_are_listened_on_and_nobody_is_refused_over_a_restart(
    tmp_path: Path, start_worker: Callable[..., FakeWorker]
) -> None:
    worker = start_worker()
    path = tmp_path / "passed.sock"
    named = socket.socket(socket.AF_UNIX)
    named.bind(str(path))
    named.listen()
    started: list[Router] = []
    with named, socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            for number in range(2):
                log = tmp_path / f"r{number}.log"
                # Who comes before the router is there waits for it.
                early = Connection(url)
                process = activated(log, [listener, named], "--port", "1", "--backend", worker.url)
                router = ready_router(process, log)
                started.append(router)
                assert router.url == url
                assert early.ask("POST", CHAT_PATH, CHAT).status == 200
                early.socket.close()
                assert status(f"unix:{path}") == 200
                router.terminate()
                assert router.wait() == 0
                assert path.exists(), "the name is the supervisor's"
        finally:
            for router in started:
                Process.kill(router)
    assert len(worker.calls) == 2
    assert not [fault for router in started for fault in router.faults()]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--reuse-port"], "reuse_port: the sockets come from the supervisor"),
        ([], "no listening stream socket"),
    ],
)
def test_what_cannot_be_listened_on_is_one_line_and_exit_code_2(
    tmp_path: Path, flags: list[str], told: str
) -> None:
    log = tmp_path / "r.log"
    kind = socket.SOCK_STREAM if flags else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as passed:
        passed.bind(("127.0.0.1", 0))
        if flags:
            passed.listen()
        process = activated(log, [passed], *flags)
        assert process.wait(60) == 2
    assert told in log.read_text()


def test_variables_that_are_meant_for_another_process_are_not_obeyed(start_router: StartRouter) -> None:
    os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = "1", "1"
    try:
        assert status(start_router().url) == 200
    finally:
        del os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"]
