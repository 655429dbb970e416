"""`check_policy`: the test kit for a policy of your own, in one line.

    from warmroute_policies.conformance import check_policy

    def test_my_policy_keeps_the_rules() -> None:
        check_policy(MyPolicy)

It drives the policy through small worlds (one worker, holes in the slots, workers that are down or drain,
prompts of nothing, workers that come and go) and raises AssertionError with the rule that broke:

    eligible       decide returns a Choice of one of `view.eligible`, with a short reason
    read           decide and explain change neither the view nor what is decided later
    repeatable     the same request in the same view gets the same answer
    seeded         two policies made alike decide alike
    robust         no method raises on any event or view that a driver may produce
    spread         among equal workers every one gets requests; a policy that pins on purpose says so with
                   the class attribute `spreads = False`
    explain        one row per worker, its eligibility right, every share a finite number

`factory` is a class or a callable without required parameters; one that takes `seed` gets it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from warmroute_policies.policy import Policy
from warmroute_policies.rehearsal import RuleBroken, World, broken
from warmroute_policies.types import Usage

PolicyFactory = Callable[..., Policy]

# Enough that a worker missed by chance is out of the question (0.75 ** 400), few enough for a unit test.
_SPREAD_REQUESTS = 400
_STEPS = 250


def check_policy(factory: PolicyFactory, seed: int = 0) -> None:
    """Raises AssertionError, with a sentence that names the rule, when the policy breaks one."""
    make = _maker(factory, seed)
    _check_attributes(make())
    for describe, build in _SCENES:
        with _in_scene(describe):
            _check_scene(build, make)
    with _in_scene("a random course of arrivals, ends, failures and changes of the fleet"):
        _check_course(make, seed)
    if getattr(make(), "spreads", True):
        with _in_scene("four equal, idle workers and requests that have nothing in common"):
            _check_spread(make)


def _maker(factory: PolicyFactory, seed: int) -> Callable[[], Policy]:
    if "seed" in inspect.signature(factory).parameters:
        return lambda: factory(seed=seed)
    return factory


@contextmanager
def _in_scene(scene: str) -> Iterator[None]:
    """What a policy raises becomes the kit's verdict; what the kit raises gets the scene's name."""
    try:
        yield
    except RuleBroken as error:
        raise RuleBroken(f"{error} (in: {scene})") from error
    except Exception as error:
        raise broken("robust", f"the policy raised {error!r} (in: {scene})") from error


# --- the scenes -----------------------------------------------------------------------------------


def _one_worker(world: World) -> None:
    world.add("a")


def _three_workers(world: World) -> None:
    for name in "abc":
        world.add(name)


def _holes_in_the_slots(world: World) -> None:
    for name in "abcde":
        world.add(name)
    for name in "ac":
        world.remove(name)


def _some_not_eligible(world: World) -> None:
    for name in "abcde":
        world.add(name)
    world.mark("a", healthy=False)
    world.mark("d", draining=True)


def _only_the_last_eligible(world: World) -> None:
    for name in "abcd":
        world.add(name)
    for name in "abc":
        world.mark(name, healthy=False)


def _a_slot_used_again(world: World) -> None:
    for name in "abc":
        world.add(name)
    world.dispatch(world.request(1))
    world.remove("b")
    world.add("new")


def _unequal_weights(world: World) -> None:
    world.add("slow", weight=0.5)
    world.add("fast", weight=4.0)


_SCENES: tuple[tuple[str, Callable[[World], None]], ...] = (
    ("one worker", _one_worker),
    ("three workers", _three_workers),
    ("holes in the slots", _holes_in_the_slots),
    ("a worker down and a worker draining", _some_not_eligible),
    ("only the last worker eligible", _only_the_last_eligible),
    ("a slot that was given to another worker", _a_slot_used_again),
    ("workers of unequal weight", _unequal_weights),
)


def _check_attributes(policy: Policy) -> None:
    name = getattr(policy, "name", None)
    if not isinstance(name, str) or not name or " " in name:
        raise broken("robust", f"`name` must be one word, and is {name!r}")
    for method in ("decide", "observe", "explain"):
        if not callable(getattr(policy, method, None)):
            raise broken("robust", f"the policy has no method `{method}`")


def _check_scene(build: Callable[[World], None], make: Callable[[], Policy]) -> None:
    """Each kind of request against one fleet; then again with the work that this left in flight."""
    world = World(make())
    build(world)
    for _ in range(3):
        for request in (
            world.request(7),
            world.request(7),
            world.request(8, blocks=1),
            world.request(None),
            world.request(None, session="s1"),
            world.request(9, blocks=300, session="s1"),
        ):
            holders = dict.fromkeys(world.eligible()[:1], 10) if request.blocks.count else {}
            for hits in ({}, holders):
                world.decide(request, hits)
                world.check_explain(request, hits)
            world.dispatch(request, holders)
            world.now += 0.01


def _check_course(make: Callable[[], Policy], seed: int) -> None:
    """Twins live through one course; one of them is asked for dry runs in between. They must agree."""
    quiet, asked = World(make()), World(make(), first_id=1_000_000)
    chance = Random(seed)
    for name in ("w0", "w1", "w2"):
        quiet.add(name)
        asked.add(name)
    names = 3
    for step in range(_STEPS):
        act = chance.random()
        twins = (quiet, asked)
        if act < 0.5:
            prompt = chance.choice([None, *range(8)])
            session = chance.choice([None, "s1", "s2", "s3"])
            request = quiet.request(prompt, session=session)
            hits = {} if prompt is None else {s: 64 for s in quiet.eligible() if chance.random() < 0.4}
            for _ in range(chance.randrange(4)):
                asked.check_explain(request, hits)
                asked.decide(asked.request(chance.randrange(8)))
            chosen = [world.dispatch(request, hits) for world in twins]
            if chosen[0] != chosen[1]:
                raise broken(
                    "read or seeded",
                    f"step {step}: a policy that was asked for dry runs chose slot {chosen[1]}, "
                    f"its twin that was not chose {chosen[0]}",
                )
        elif act < 0.6 and quiet.in_flight():
            request_id = chance.choice(quiet.in_flight())
            for world in twins:
                world.first_token(request_id)
        elif act < 0.85 and quiet.in_flight():
            request_id = chance.choice(quiet.in_flight())
            ok = chance.random() < 0.8
            usage = chance.choice([None, Usage(), Usage(2048, 100, 0), Usage(2048, None, 1024)])
            for world in twins:
                world.finish(request_id, ok=ok, usage=usage)
        elif act < 0.9:
            for world in twins:
                world.add(f"w{names}", weight=1.0 + names % 2)
            names += 1
        elif act < 0.94 and len(quiet.eligible()) > 1:
            slot = chance.choice(quiet.eligible())
            name = quiet.fleet.worker_id(slot).removeprefix("http://").removesuffix(":8000")
            for world in twins:
                world.remove(name)
        elif len(quiet.eligible()) > 1:
            name = chance.choice(quiet.names())
            healthy, draining = chance.random() < 0.7, chance.random() < 0.3
            slot = quiet.fleet.slot_of[f"http://{name}:8000"]
            if quiet.eligible() != (slot,):
                for world in twins:
                    world.mark(name, healthy=healthy, draining=draining)
        for world in twins:
            world.now += 0.05
    for world in (quiet, asked):
        for request_id in world.in_flight():
            world.finish(request_id, ok=True)


def _check_spread(make: Callable[[], Policy]) -> None:
    """Equal workers, requests that share nothing, each one ended before the next comes."""
    world = World(make())
    for name in "abcd":
        world.add(name)
    used = set[int]()
    for prompt in range(_SPREAD_REQUESTS):
        request = world.request(prompt + 1)
        used.add(world.dispatch(request))
        world.now += 0.1
        world.finish(request.request_id, ok=True)
        if len(used) == 4:
            return
    raise broken("spread", f"{_SPREAD_REQUESTS} requests used only slots {sorted(used)} of 0 to 3")
