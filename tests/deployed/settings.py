"""What the router itself says of settings that a deployment gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from deployed.tools import RUN_TIMEOUT_S


def accepted(*flags: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Every setting's value as the router understands these flags and ROUTER_ variables, and no others.

    AssertionError with the router's words when it refuses them.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
    answer = subprocess.run(
        [sys.executable, "-m", "warmroute", "config", "--json", "-", *flags],
        env=environment | dict(variables or {}),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return {name: item["value"] for name, item in json.loads(answer.stdout).items()}
