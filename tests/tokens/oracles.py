"""Engines' own code as the measure: what it makes of chats, asked in one go."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokens.conversations import Body

HERE = Path(__file__).parent
TINY = HERE / "tiny"
TEMPLATES = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}

# The interpreters' environment variables, and the script that each runs.
VLLM = ("WARMROUTE_VLLM_PYTHON", "ask_vllm.py")
SGLANG = ("WARMROUTE_SGLANG_PYTHON", "ask_sglang.py")


def ask(
    oracle: tuple[str, str], questions: Sequence[tuple[str, Body]], folder: Path = TINY
) -> list[list[int] | None] | None:
    """For each template and request the ids; None for a request that the engine refuses. None at all: there
    is no such engine here."""
    variable, script = oracle
    python = os.environ.get(variable)
    if not python:
        return None
    lines = [
        json.dumps({"folder": str(folder), "template": TEMPLATES[template], "request": request})
        for template, request in questions
    ]
    done = subprocess.run(
        [python, str(HERE / script)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "SGLANG_USE_CPU_ENGINE": "1",
        },
        timeout=600,
        check=True,
    )
    answers: list[Any] = [
        json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "null"))
    ]
    assert len(answers) == len(lines), done.stderr[-2000:]
    return answers
