"""Where figures come from: the command, the commit, the machine, the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from routing_lib.results import Made, rounded
from routing_lib.store import digest_of_sources
from warmroute_policies import balancer

_UNKNOWN: Final = "unknown"


def made(root: Path, command: str, runs: int, cpu_s: float) -> Made:
    """Reads. The commit is that which is checked out, "edited" when files of it were changed since."""
    commit, _, date = _git(root, "log", "-1", "--format=%H %cI").partition(" ")
    edited = _edited(root)
    return Made(
        command,
        commit or _UNKNOWN,
        f"{date or _UNKNOWN}{edited}",
        digest_of_sources(),
        not balancer.__file__.endswith(".py"),
        f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        {"Python": platform.python_version(), **{name: version(name) for name in ("warmroute", "numpy")}},
        runs,
        rounded(cpu_s),
    )


def commit(root: Path) -> str:
    """Reads. In twelve letters, with a word where files of it were changed since."""
    return (_git(root, "log", "-1", "--format=%h", "--abbrev=12") or _UNKNOWN) + _edited(root)


def _edited(root: Path) -> str:
    return " (edited)" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""


def _git(root: Path, *arguments: str) -> str:
    """What it says; nothing where there is no repository."""
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def processor() -> str:
    """Reads. What the machine says that it is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
