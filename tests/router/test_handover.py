"""One router takes over from another on the same port while clients ask."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import rolling_restart
from live.front import CHAT, CHAT_PATH, Front
from live.polling import eventually
from live.processes import Process, spawn_router
from live.wire import Connection, request
from warmroute.handover import _choose, give_way, share


def test_two_restarts_under_load_fail_no_request_and_cut_no_stream(tmp_path: Path) -> None:
    tally = rolling_restart.play(restarts=2, rate=60, streams=10, between_s=1.0, folder=tmp_path)
    assert not tally.failed
    assert len(tally.routers) == 3, "each of the three routers answered some"
    assert tally.streams > 10


class Port:
    """A port on which some listen, and who accepts what comes. State: the listeners by name."""

    def __init__(self, names: str) -> None:
        self.listeners: dict[str, socket.socket] = {}
        self.number = 0
        for name in names:
            self.open(name)

    def open(self, name: str) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", self.number))
        listener.listen(1000)
        listener.setblocking(False)
        self.number = listener.getsockname()[1]
        self.listeners[name] = listener

    def close(self, name: str) -> None:
        self.listeners.pop(name).close()

    async def give_way(self, name: str) -> bool:
        return await give_way([self.listeners[name]], lambda address: address in self._accepted(name))

    def taken(self, connections: int = 60) -> Counter[str]:
        """Who gets so many new connections."""
        clients = [socket.create_connection(("127.0.0.1", self.number)) for _ in range(connections)]
        ours = {client.getsockname() for client in clients}
        found = Counter({name: len(ours & set(self._accepted(name))) for name in self.listeners})
        for client in clients:
            client.close()
        return +found

    def _accepted(self, name: str) -> list[tuple[str, int]]:
        peers = []
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, peer = self.listeners[name].accept()
                connection.close()
                peers.append(peer)
        return peers


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port("ab")
    if not _choose(port.listeners["a"], 0):
        pytest.skip("this kernel lets nobody choose among listeners")
    share([port.listeners["a"]])
    yield port
    for name in list(port.listeners):
        port.close(name)


@pytest.mark.parametrize(("names", "leaves"), [("", "a"), ("", "b"), ("c", "a"), ("c", "b"), ("c", "c")])
async def test_who_gives_way_gets_no_new_connection_whoever_came_first(
    port: Port, names: str, leaves: str
) -> None:
    for name in names:
        port.open(name)
    assert await port.give_way(leaves)
    taken = port.taken()
    assert taken[leaves] == 0
    assert taken.total() == 60
    port.close(leaves)
    share([*port.listeners.values()])
    assert set(port.taken(200)) == set(port.listeners), "those that stay share what comes"


async def test_a_restart_beside_one_that_stays_leaves_two_that_share(port: Port) -> None:
    port.open("c")
    share([port.listeners["c"]])
    assert await port.give_way("a")
    port.close("a")
    share([port.listeners["b"]])
    assert min(port.taken(200).values()) > 50


async def test_who_is_alone_gives_way_to_nobody_and_leaves_nothing_behind(port: Port) -> None:
    port.close("b")
    assert not await port.give_way("a")
    port.open("late")
    assert set(port.taken(200)) == {"a", "late"}


def test_a_second_router_on_the_port_needs_both_to_allow_it(front: Front, tmp_path: Path) -> None:
    port = str(front.router.port)
    with pytest.raises(AssertionError, match="cannot listen on"):
        spawn_router(
            tmp_path / "second.log", "--port", port, "--reuse-port", "--backend", front.workers[0].url
        )


def test_a_router_without_a_worker_does_not_take_over_from_one_that_works(
    front: Front, tmp_path: Path
) -> None:
    flags = ("--reuse-port", "--no-model-discovery")
    old = spawn_router(tmp_path / "old.log", "--backend", front.workers[0].url, *flags)
    try:
        with pytest.raises(AssertionError, match="cannot take over: no worker can take a request"):
            spawn_router(tmp_path / "new.log", "--port", str(old.port), "--handover-wait-s", "0.3", *flags)
        with Connection(old.url) as connection:
            assert connection.ask("POST", CHAT_PATH, CHAT).status == 200
    finally:
        Process.kill(old)
    late = spawn_router(tmp_path / "late.log", "--port", str(old.port), *flags)
    Process.kill(late)
    assert "router ready" in late.messages(), "where nobody serves, it listens at once"
    assert "there are no workers" in " ".join(late.messages())


def test_a_request_on_an_idle_connection_is_answered_after_the_signal(tmp_path: Path, front: Front) -> None:
    worker = front.workers[0].url
    router = spawn_router(tmp_path / "stopping.log", "--backend", worker, "--no-model-discovery")
    try:
        with Connection(router.url) as idle, Connection(router.url) as silent:
            assert idle.ask("POST", CHAT_PATH, CHAT).headers.get("connection") != "close"
            assert silent.ask("POST", CHAT_PATH, CHAT).status == 200
            router.terminate()
            eventually(lambda: "stopping" in router.messages(), "the signal has come")
            idle.send(request("POST", CHAT_PATH, CHAT))
            last = idle.answer()
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert idle.at_end()
            assert silent.at_end(), "who asks no more is let go after `shutdown_idle_s`"
        assert router.wait() == 0
    finally:
        Process.kill(router)
