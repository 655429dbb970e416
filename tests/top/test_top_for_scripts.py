"""`router top` without a terminal: one frame, one snapshot, plain lines; errors with exit code 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.fake_worker import fake_workers
from live.front import Front
from live.polling import PATIENCE_S, eventually
from live.processes import spawn_router


def top(*flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    return subprocess.run(
        [sys.executable, "-m", "warmroute", "top", *flags],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env=kept | (env or {}),
    )  # fmt: skip


def test_one_frame_without_a_terminal_has_everything_and_no_escapes(busy: Front) -> None:
    eventually(lambda: busy.counted("router_requests_total") > 5, "there is traffic")
    done = top("--url", busy.router.url, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    for worker in busy.workers:
        assert worker.url.removeprefix("http://") in done.stdout
    for words in ("cache_aware", "3 of 3 take requests", "prefixes", "session-1", "shadow policies"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_the_snapshot_is_written_as_the_router_told_it(busy: Front, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    assert top("--url", busy.router.url, "--json", str(path)).stdout == ""
    snapshot = json.loads(path.read_text())
    assert [worker["id"] for worker in snapshot["workers"]] == [worker.url for worker in busy.workers]
    told = top("--url", busy.router.url, "--json", "-")
    assert json.loads(told.stdout).keys() == snapshot.keys()


def test_a_file_that_cannot_be_written_is_an_error(busy: Front, tmp_path: Path) -> None:
    done = top("--url", busy.router.url, "--json", str(tmp_path / "no" / "folder"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr


def test_a_pipe_gets_a_line_each_time_until_it_is_closed(busy: Front) -> None:
    command = [sys.executable, "-m", "warmroute", "top", "--url", busy.router.url, "--interval-s", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""
    assert all("req/s" in line and "workers 3/3" in line for line in lines)


@pytest.mark.parametrize("flags", [(), ("--once",)])
def test_a_router_that_is_not_there_is_an_error_for_scripts(flags: tuple[str, ...]) -> None:
    with fake_workers(1) as [absent]:
        absent.stop_listening()
        done = top("--url", absent.url, *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"router top: error: {absent.url}: nobody listens there\n"


def test_something_else_than_a_router_is_an_error() -> None:
    with fake_workers(1) as [worker]:
        done = top("--url", worker.url, "--once")
    assert done.returncode == 1
    assert "no warmroute, or an older one" in done.stderr


def test_a_wrong_key_is_an_error_and_the_right_one_may_come_from_the_environment(tmp_path: Path) -> None:
    router = spawn_router(tmp_path / "router.log", "--admin-api-key", "right", "--api-key", "clients")
    try:
        wrong = top("--url", router.url, "--once", "--api-key", "wrong")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "needs an admin key" in wrong.stderr
        for env in ({}, {"ROUTER_API_KEY": "clients"}):
            assert top("--url", router.url, "--once", env=env).returncode == 1
        both = {"ROUTER_API_KEY": "clients", "ROUTER_ADMIN_API_KEY": "right"}
        assert top("--url", router.url, "--once", env=both).returncode == 0
    finally:
        router.kill()


def test_a_url_that_is_none_is_a_usage_error() -> None:
    done = top("--url", "localhost:30000")
    assert done.returncode == 2
    assert "expected a URL" in done.stderr
