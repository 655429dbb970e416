"""Clients that people use call the router in front of real engines as they would call the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from e2e.engines.engine import Engine, running
from e2e.engines.llamacpp import llamacpp
from e2e.findings import Findings
from live.polling import eventually
from live.processes import Router, StartRouter

pytestmark = pytest.mark.e2e

CALLERS = Path(__file__).with_name("callers")
# One that imports LiteLLM takes ten seconds for that alone on a busy machine.
PATIENCE_S = 240.0

by_client = pytest.mark.parametrize("client", ["openai", "anthropic", "litellm", "langchain"])


def started(home: Path, client: str, router: Router, engine: Engine, *words: str) -> subprocess.Popen[str]:
    """The client's script, in the environment that holds the client."""
    (separate,) = home.glob("callers-*/bin/python")
    python = sys.executable if client in ("openai", "anthropic") else str(separate)
    environment = os.environ | {
        "PYTHONPATH": str(CALLERS.parent.parent),
        # Nothing is fetched and nothing is reported.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGCHAIN_TRACING_V2": "false",
        "NO_PROXY": "*",
    }
    return subprocess.Popen(
        [python, str(CALLERS / f"{client}_calls.py"), router.url, engine.url, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, str]:
    """What its script says of each check: nothing, where all was well."""
    with process:
        try:
            said, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, said
    found: dict[str, str] = json.loads(said.strip().splitlines()[-1])
    return found


@by_client
def test_a_client_sees_through_the_router_what_it_sees_at_the_engine(
    client: str, engine: Engine, router_before: Callable[[Engine], Router], e2e_home: Path, findings: Findings
) -> None:
    said = finished(started(e2e_home, client, router_before(engine), engine))
    assert not any(said.values()), "\n".join(f"{name}: {wrong}" for name, wrong in said.items() if wrong)
    findings.add(f"client {client}: as at the engine", engine.kind, ", ".join(said))


@by_client
def test_a_clients_own_retries_bridge_an_outage(
    client: str, start_router: StartRouter, e2e_home: Path, tmp_path: Path
) -> None:
    with running(lambda number: llamacpp(e2e_home, tmp_path, number)) as (lone,):
        router = start_router(lone.url)
        lone.kill()
        eventually(lambda: refusals(router) or asked(router), "the router knows that nobody is there")
        process = started(e2e_home, client, router, lone, "--outage")
        before = refusals(router)
        try:
            eventually(lambda: refusals(router) > before, "the client was refused", PATIENCE_S)
            lone.start()
            assert finished(process) == {"outage": ""}
        finally:
            process.kill()


def asked(router: Router) -> bool:
    """Whether a request was refused because nobody can take it."""
    answer = httpx.post(f"{router.url}/v1/completions", json={"prompt": "x"}, trust_env=False, timeout=20)
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE


def refusals(router: Router) -> float:
    """Requests that the router refused."""
    page = httpx.get(f"{router.url}/metrics", trust_env=False, timeout=20).text
    lines = (line for line in page.splitlines() if line.startswith("router_refusals_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)
