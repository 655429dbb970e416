"""The code on the pages `docs/writing-a-policy.md` and `policies/README.md` runs, and does what they say."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from traffic import Traffic
from warmroute_policies import plugins
from warmroute_policies.events import PolicySpec
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.plugins import load_policy
from warmroute_policies.policy import Choice
from warmroute_policies.registry import available, defaults
from warmroute_policies.rehearsal import World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-policy.md").read_text(encoding="utf-8")
README = (ROOT / "policies" / "README.md").read_text(encoding="utf-8")
PARAMS = {"miss_price": "2"}


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


MODULE, TEST, LOADING, REPLAYING = blocks("python")


def run(code: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "acme_routing"}
    exec(compile(code, "docs/writing-a-policy.md", "exec"), scope)
    return scope


@pytest.fixture(autouse=True)
def acme_routing(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("acme_routing")
    monkeypatch.setitem(sys.modules, "acme_routing", module)
    module.__dict__.update(run(MODULE))
    return module


def test_the_pages_test_passes() -> None:
    scope = run(TEST)
    tests = [name for name in scope if name.startswith("test_")]
    assert tests
    for name in tests:
        scope[name]()


def test_the_policy_loads_with_its_parameters_and_inside_of_session_sticky() -> None:
    scope = run(LOADING)
    assert (scope["policy"].miss_price, scope["policy"].seed) == (2.0, 7)
    assert scope["sticky"].inner.miss_price == 2.0


def test_the_policy_does_what_the_page_says() -> None:
    world = World(load_policy("acme_routing:FewestTokens"))
    for name in "abc":
        world.add(name)
    request = world.request(1)  # 2,048 tokens
    assert world.decide(request, {1: 1_024}) == Choice(1, "warm")
    world.fleet.queued_tokens[1] = 1_025
    assert world.decide(request, {1: 1_024}).reason == "cold"


def test_the_pages_entry_point_names_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    (announcement,) = blocks("toml")
    points = tomllib.loads(announcement)["project"]["entry-points"]
    ((name, value),) = points[plugins.GROUP].items()
    found = EntryPoints([EntryPoint(name, value, plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", lambda group: found.select(group=group))
    assert load_policy("fewest_tokens").name == "fewest_tokens"
    assert load_policy("fewest_tokens", PARAMS, 3).name == "fewest_tokens"


def test_the_pages_replay_finds_no_difference() -> None:
    lines: list[bytes] = []
    name = "acme_routing:FewestTokens"
    policy = load_policy(name, PARAMS, 5)
    made_by = PolicySpec(name, dict(PARAMS), 5)
    traffic = Traffic(RecordedBalancer(policy, write=lines.append, made_by=made_by), 5)
    for _ in traffic.steps(400):
        pass
    assert run(REPLAYING)["differences"](lines) == 0


def test_the_router_command_on_the_page_names_the_policy_of_the_page() -> None:
    (command,) = [block for block in blocks("") if "router --backend" in block]
    assert "--policy acme_routing:FewestTokens --policy-param miss_price=2" in command


def test_the_readmes_example_runs_and_its_lists_are_complete() -> None:
    (example,) = blocks("python", README)
    names = "balancer:Balancer blocks:PromptBlocks blocks:salt_of registry:make_policy types:Outcome"
    names += " types:RoutingRequest types:Usage types:WorkerSpec"
    scope: dict[str, Any] = {"prompt": b"a prompt of some length " * 100, "now": 1.0}
    for name in names.split():
        module, attribute = name.split(":")
        scope[attribute] = getattr(import_module(f"warmroute_policies.{module}"), attribute)
    exec(compile(example, "policies/README.md", "exec"), scope)
    assert scope["decision"].worker == "http://gpu1:8000"
    assert scope["balancer"].in_flight() == 0
    modules = {path.stem for path in (ROOT / "policies" / "warmroute_policies").glob("*.py")} - {"__init__"}
    assert {m for m in modules if f"`{m}`" not in README} == set(), "the map lacks modules"
    table = README.split("## Policies")[1]
    for policy in available():
        (row,) = re.findall(rf"^\| `{policy}` \|.*$", table, re.MULTILINE)
        if "the same" not in row:
            assert set(re.findall(r"`([a-z_]+)`", row)) == {policy, *defaults(policy)}
