"""Virtual time."""

from __future__ import annotations

import random

from warmroute_simulator.simulation.kernel import Kernel


def test_things_happen_in_order_of_time_and_at_one_moment_in_the_order_of_asking() -> None:
    print("seed 1")
    chance = random.Random(1)
    kernel = Kernel()
    told: list[tuple[float, int]] = []
    asked = [(float(chance.randrange(20)), number) for number in range(500)]
    for when_s, number in asked:
        kernel.at(when_s, lambda number: told.append((kernel.now, number)), number)
    kernel.run()
    assert told == sorted(asked)


def test_what_is_asked_for_in_the_past_happens_now() -> None:
    kernel = Kernel()
    told: list[float] = []
    kernel.at(5.0, lambda _: kernel.at(1.0, lambda _: told.append(kernel.now)))
    kernel.run()
    assert told == [5.0]


def test_what_happens_may_ask_for_more() -> None:
    kernel = Kernel()
    told: list[float] = []

    def again(left: int) -> None:
        told.append(kernel.now)
        if left:
            kernel.at(kernel.now + 0.5, again, left - 1)

    kernel.at(1.0, again, 3)
    kernel.run()
    assert told == [1.0, 1.5, 2.0, 2.5]
