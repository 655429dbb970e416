"""Folders of the simulator import downwards only; what a plain replay imports is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "simulator" / "warmroute_simulator"
BELOW = {
    "traces": set[str](),
    "generators": {"traces"},
    "engine": set[str](),
    "simulation": {"traces", "engine"},
    "bounds": {"traces", "engine"},
    "report": {"traces", "simulation", "bounds"},
    "study": {"traces", "engine", "simulation", "bounds", "report"},
    "fitting": {"traces", "engine", "simulation", "report"},
    "serve": {"engine"},
    "commands": {
        "traces", "generators", "engine", "simulation", "bounds", "report", "study", "fitting", "serve"
    },
}  # fmt: skip
MODULES = sorted(path for folder in BELOW for path in (ROOT / folder).rglob("*.py"))
HEAVY = ("numpy", "scipy", "matplotlib", "rich", "httptools", "uvloop", "asyncio", "httpx")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_folders_below_its_own(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("warmroute_simulator."):
                other = name.split(".")[1]
                assert other == folder or other in BELOW[folder], f"line {node.lineno}: {name}"


def test_every_folder_has_its_place() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(BELOW)


def test_a_plain_replay_starts_without_what_only_pictures_and_servers_need() -> None:
    program = (
        f"import warmroute_simulator.commands.replay, sys; print([n for n in {HEAVY!r} if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
