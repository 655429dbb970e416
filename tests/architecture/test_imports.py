"""Who may import whom, read from the syntax trees of the three packages.

    warmroute -> warmroute_policies <- warmroute_simulator

The core decides from values alone, so the modules that would give it a clock, a socket, a log or a global
source of chance stay out of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "warmroute_policies": ROOT / "policies" / "warmroute_policies",
    "warmroute": ROOT / "router" / "warmroute",
    "warmroute_simulator": ROOT / "simulator" / "warmroute_simulator",
}
MAY_IMPORT = {
    "warmroute_policies": {"warmroute_policies"},
    "warmroute": {"warmroute", "warmroute_policies"},
    "warmroute_simulator": {"warmroute_simulator", "warmroute_policies"},
}
# What would let the core block, look at a clock, talk, or know who drives it.
FORBIDDEN_IN_CORE = {
    "asyncio",
    "datetime",
    "fastapi",
    "httptools",
    "httpx",
    "logging",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uvicorn",
    "uvloop",
}
MODULES = [(package, path) for package, root in PACKAGES.items() for path in sorted(root.rglob("*.py"))]


def label(module: tuple[str, Path]) -> str:
    return str(module[1].relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every absolute import, wherever it stands: (line, dotted name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.lineno, node.module


def global_chance(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every use of `random` other than its class `Random`: the module's functions share one global state."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            if node.attr != "Random":
                yield node.lineno, f"random.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from ((node.lineno, f"random.{a.name}") for a in node.names if a.name != "Random")
        elif isinstance(node, ast.Import):
            yield from (
                (node.lineno, "random, renamed") for a in node.names if a.name == "random" and a.asname
            )


def test_all_three_packages_are_found() -> None:
    assert {package for package, _ in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("module", MODULES, ids=label)
def test_a_package_imports_only_along_the_arrows(module: tuple[str, Path]) -> None:
    package, path = module
    crossings = [
        f"{label(module)}:{line} imports {name}"
        for line, name in imported(tree_of(path))
        if name.split(".")[0] in set(PACKAGES) - MAY_IMPORT[package]
    ]
    assert crossings == []


@pytest.mark.parametrize("module", [m for m in MODULES if m[0] == "warmroute_policies"], ids=label)
def test_the_core_has_no_clock_no_sockets_no_log_and_no_framework(module: tuple[str, Path]) -> None:
    found = [
        f"{label(module)}:{line} imports {name}"
        for line, name in imported(tree_of(module[1]))
        if name.split(".")[0] in FORBIDDEN_IN_CORE
    ]
    assert found == []


@pytest.mark.parametrize("module", [m for m in MODULES if m[0] == "warmroute_policies"], ids=label)
def test_the_core_takes_its_chance_from_an_injected_random(module: tuple[str, Path]) -> None:
    found = [f"{label(module)}:{line} uses {name}" for line, name in global_chance(tree_of(module[1]))]
    assert found == []


@pytest.mark.parametrize("module", MODULES, ids=label)
def test_every_module_says_what_it_is_for(module: tuple[str, Path]) -> None:
    assert ast.get_docstring(tree_of(module[1])), f"{label(module)} has no docstring"


@pytest.mark.parametrize(
    ("source", "uses"),
    [
        ("import random\nrandom.shuffle(x)", ["random.shuffle"]),
        ("import random\ndef f(rng: random.Random) -> float:\n    return rng.random()", []),
        ("from random import choice", ["random.choice"]),
        ("from random import Random", []),
        ("import random as r", ["random, renamed"]),
    ],
)
def test_the_search_for_global_chance_sees_each_form(source: str, uses: list[str]) -> None:
    assert [name for _, name in global_chance(ast.parse(source))] == uses
