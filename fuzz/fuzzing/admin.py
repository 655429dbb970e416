"""The admin API, by schemathesis on what the API says of itself at /openapi.json.

Oracle. Schemathesis's own: no 5xx but 502 and 503, statuses, types and bodies as they are described. Behind
each run the router's log has no traceback and it serves on. schemathesis has an environment of its own
(`make fuzz` makes it): it wants other versions than the product does.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fuzzing.target import Finding
from live.fake_worker import fake_workers
from live.front import Front
from live.processes import Process, spawn_router

COMMAND = Path(__file__).parents[2] / ".venv-fuzz/bin/schemathesis"

# A router without workers answers 503, and rightly so.
CONFIG = Path(__file__).with_name("schemathesis.toml")

# Long enough for a round over all endpoints; a run is many rounds with seeds of their own.
_ROUND_S = 20

# A stream that never ends is no answer to wait for.
_ENDLESS = "/live/events"

_CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
)


def is_here() -> bool:
    """Reads. Whether schemathesis is installed."""
    return COMMAND.exists()


class AdminTarget:
    """State: a router that nobody else uses, and a folder for what schemathesis keeps."""

    def __init__(self, front: Front, folder: Path) -> None:
        self._front = front
        self._folder = folder

    def once(self, chance: random.Random) -> int:
        """One round over the whole API. Raises Finding."""
        seed = chance.randrange(1 << 32)
        words = [
            str(COMMAND), "--config-file", str(CONFIG), "run", f"{self._front.router.url}/openapi.json",
            "--seed", str(seed), "--checks", _CHECKS, "--max-examples", "25", "--max-time", str(_ROUND_S),
            "--request-timeout", "10", "--exclude-path-regex", _ENDLESS, "--no-color",
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        played = subprocess.run(
            words, cwd=self._folder, capture_output=True, text=True, check=False, env=environment
        )
        if played.returncode:
            raise Finding(f"schemathesis, seed {seed}:\n{played.stdout[-3000:]}{played.stderr[-1000:]}")
        return 1

    def settle(self) -> None:
        """Looks at the log, and whether the router lives. Raises Finding."""
        faults = self._front.router.faults()
        if faults:
            raise Finding("the router's log: " + "\n".join(faults[:60]))
        with self._front.connect() as connection:
            status = connection.ask("GET", "/health").status
        if status != 200:
            raise Finding(f"the router does not live: {status}")


@contextlib.contextmanager
def admin_target(folder: Path) -> Iterator[AdminTarget]:
    """A router with an admin API that is open to all."""
    if not is_here():
        raise SystemExit("fuzz: schemathesis is missing: `make fuzz` installs it")
    with fake_workers(2) as workers:
        listed = [word for worker in workers for word in ("--backend", worker.url)]
        router = spawn_router(
            folder / "router.log", *listed, "--health-interval-s", "0.5", "--health-timeout-s", "0.5",
            "--connect-timeout-s", "0.5", "--engine-call-timeout-s", "0.5",
        )  # fmt: skip
        try:
            yield AdminTarget(Front(router, workers), folder)
        finally:
            Process.kill(router)
