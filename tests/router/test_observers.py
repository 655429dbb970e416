"""Observers: told of every moment; one that fails harms nobody."""

from __future__ import annotations

from typing import Any

from live.front import CHAT_PATH
from warmroute.app import build
from warmroute.client import ClientConnection
from warmroute.config import Settings
from warmroute.exchange import Exchange
from warmroute.gateway import Gateway
from warmroute_policies.types import Outcome


class Recorder:
    """Writes down what it is told. State: the moments; fails at the one that it is given."""

    def __init__(self, fails_at: str = "") -> None:
        self.told: list[str] = []
        self._fails_at = fails_at

    def arrived(self, *_: Any) -> None:
        self._tell("arrived")

    def routed(self, *_: Any) -> None:
        self._tell("routed")

    def first_byte(self, *_: Any) -> None:
        self._tell("first_byte")

    def finished(self, *_: Any) -> None:
        self._tell("finished")

    def refused(self, *_: Any) -> None:
        self._tell("refused")

    def _tell(self, moment: str) -> None:
        self.told.append(moment)
        if moment == self._fails_at:
            raise LookupError("made for this test")


def exchange(gateway: Gateway) -> Exchange:
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n".encode()
    plan, _ = gateway.heads.read(head)
    assert plan.parse is not None
    return Exchange(gateway, ClientConnection(gateway), plan, plan.parse, b"", 0.0, 1, b"id")


def test_one_that_fails_is_told_no_more_and_the_others_are() -> None:
    gateway = build(Settings())
    failing, other = Recorder(fails_at="first_byte"), Recorder()
    for observer in (failing, other):
        gateway.watch(observer)
    one = exchange(gateway)
    gateway.observers.first_byte(one, 1.0)
    gateway.observers.finished(one, Outcome.OK, None, 2.0)
    assert failing.told == ["first_byte"]
    assert other.told == ["first_byte", "finished"]
    gateway.unwatch(other)
    assert not gateway.observers.watching


def test_who_has_to_be_first_is_first_and_leaving_twice_is_leaving_once() -> None:
    gateway = build(Settings())
    order: list[str] = []

    class Named(Recorder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def refused(self, *_: Any) -> None:
            order.append(self.name)

    late, first = Named("late"), Named("first")
    gateway.watch(late)
    gateway.watch(first, first=True)
    gateway.observers.refused(exchange(gateway), "no_worker", 1.0)
    gateway.unwatch(late)
    gateway.unwatch(late)
    gateway.observers.refused(exchange(gateway), "no_worker", 1.0)
    assert order == ["first", "late", "first"]
