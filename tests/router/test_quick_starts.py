"""Routers that the tests fork are processes like any other."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live.prefork import Forked
from live.processes import spawn_router

FLAGS = ("--backend", "http://127.0.0.1:1", "--no-model-discovery")


def test_a_forked_router_tells_that_it_runs_and_how_it_ended(tmp_path: Path) -> None:
    stopped, killed = (spawn_router(tmp_path / name, *FLAGS) for name in ("stopped.log", "killed.log"))
    assert isinstance(stopped.process, Forked)
    assert stopped.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        stopped.wait(0)
    stopped.terminate()
    assert stopped.wait() == 0
    assert stopped.process.returncode == 0
    assert killed.process.poll() is None
    killed.kill()
    killed.kill()
    assert killed.process.poll() == -signal.SIGKILL


def test_a_forked_router_that_refuses_its_flags_ends_with_the_reason_in_its_log(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--no-such-flag"):
        spawn_router(tmp_path / "router.log", "--no-such-flag")


def test_a_router_with_an_environment_of_its_own_is_started_by_the_system(tmp_path: Path) -> None:
    router = spawn_router(tmp_path / "router.log", *FLAGS, env={"OF_ITS_OWN": "1"})
    with_env = router.process
    router.kill()
    assert isinstance(with_env, subprocess.Popen)
    assert with_env.args[:3] == [sys.executable, "-m", "warmroute"]  # type: ignore[index]
