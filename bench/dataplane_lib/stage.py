"""Where one router is measured: a core for the router, another one for the load and the fake engines."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """What a router is started with."""

    core: int
    """The router's own."""
    backends: list[str]
    folder: Path
    """Of its logs; gone with the stage."""


@contextmanager
def stage(workers: int) -> Iterator[Stage]:
    """So many fake engines, until the end. This process moves to another core than the router's. Exits with a
    message where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit(f"{sys.argv[0]} needs two cores: one for the router, one for the load")
    os.sched_setaffinity(0, {cores[0]})
    command = [sys.executable, "-m", "dataplane_lib.worker", str(workers)]
    here = Path(__file__).resolve().parents[1]
    with (
        tempfile.TemporaryDirectory(prefix="warmroute-bench-") as folder,
        subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True) as engines,
    ):
        try:
            assert engines.stdout is not None
            ports = engines.stdout.readline().split()[1:]
            yield Stage(cores[1], [f"http://127.0.0.1:{port}" for port in ports], Path(folder))
        finally:
            engines.kill()
