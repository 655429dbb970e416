"""The loop goes on while engines talk."""

from __future__ import annotations

import asyncio

import pytest

from warmroute.kv_events.sockets import Grave, Pump, Sockets


class Endless:
    """Always has more to do."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, now: float) -> bool:
        self.steps += 1
        return True


class Broken:
    def step(self, now: float) -> bool:
        raise ZeroDivisionError


async def test_whoever_has_endless_work_takes_turns_with_others_and_with_the_loop() -> None:
    pump, first, second = Pump(), Endless(), Endless()
    for one in (first, second, first):
        pump.ready(one)
    for _ in range(5):
        await asyncio.sleep(0)
        assert abs(first.steps - second.steps) <= 1
    assert first.steps


async def test_a_fault_of_one_is_not_the_others_end() -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    pump, good = Pump(), Endless()
    pump.ready(Broken())
    pump.ready(good)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(faults) == 1
    assert good.steps


async def test_a_table_is_let_go_of_bit_by_bit() -> None:
    table = {number: number for number in range(100_000)}
    pump, turns = Pump(), 0
    pump.ready(Grave(table))
    while table:
        before = len(table)
        await asyncio.sleep(0)
        turns += 1
        assert len(table) <= before
    assert turns > 1


async def test_a_port_that_is_taken_is_an_os_error_that_names_it() -> None:
    sockets = Sockets()
    line = sockets.subscribe("tcp://127.0.0.1:*", "", lambda _frames, _now: None, bind=True)
    try:
        address = line.address
        with pytest.raises(OSError, match="already in use") as raised:
            sockets.subscribe(address, "", lambda _frames, _now: None, bind=True)
        assert address in str(raised.value)
        with pytest.raises(OSError, match="x"):
            sockets.subscribe("tcp://x y:1", "", lambda _frames, _now: None, bind=False)
    finally:
        line.close()
        line.close()
        sockets.close()
