"""The Dockerfile's claims, and what its instructions make, run as a container would run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from deployed.dockerfile import DOCKERFILE, ROOT, context, stages
from deployed.sandbox import sandboxed
from deployed.settings import accepted
from deployed.tools import silent
from live.polling import PATIENCE_S, eventually
from warmroute.demo.processes import free_port

LOCK = ROOT / "deploy" / "requirements-image.lock"
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)(?: ;[^\\]*)? \\\n((?: +--hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name to version and hashes."""
    text = path.read_text(encoding="utf-8") + "\n"
    return {
        name: (version, frozenset(re.findall(r"--hash=(\S+)", hashes)))
        for name, version, hashes in PIN.findall(text)
    }


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    silent(Path(sys.executable).with_name("hadolint"), DOCKERFILE)


def test_every_package_of_the_image_is_the_one_that_is_tested() -> None:
    tested, shipped = pins(ROOT / "requirements.lock"), pins(LOCK)
    assert len(shipped) == len(re.findall(r"^\w", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: tested.get(name) for name in shipped} == shipped


def test_the_image_runs_as_a_number_that_is_not_root_on_bases_with_versions() -> None:
    builder, final = stages()
    (user,) = final.all("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    for stage in (builder, final):
        assert re.fullmatch(r"python:3\.11\.\d+(-slim)?-bookworm( AS builder)?", stage.base)
    assert json.loads(final.all("ENTRYPOINT")[0]) == ["router"]
    assert final.all("EXPOSE") == [final.variables()["ROUTER_PORT"]]


def test_the_images_variables_are_settings() -> None:
    variables = stages()[-1].variables()
    routers = {name: value for name, value in variables.items() if name.startswith("ROUTER_")}
    assert accepted(variables=routers)["host"] == "0.0.0.0"


def test_the_build_sees_sources_and_no_secrets_environments_or_history() -> None:
    packages = {"policies", "router", "simulator"}
    files = {"LICENSE", "README.md", "deploy", "hatch_build.py", "pyproject.toml"}
    assert {file.parts[0] for file in context()} == packages | files
    assert not {file.suffix for file in context()} & {".so", ".pyc", ".env"}


def test_the_environment_holds_what_runs_and_nothing_of_what_builds_or_tests(image: Path) -> None:
    (site,) = image.glob("opt/warmroute/lib/python*/site-packages")
    found = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert {
        "warmroute",
        "uvloop",
        "fastapi",
        "dnspython",
        "kubernetes_asyncio",
        "opentelemetry_sdk",
        "pyzmq",
        "tokenizers",
    } <= found
    assert not found & {"pip", "setuptools", "mypy", "hatchling", "pytest", "numpy", "locust"}


class Container:
    """A command of the image, in the sandbox. State: the process and its log."""

    def __init__(self, log: IO[str], command: list[str], environment: dict[str, str]) -> None:
        self.log = Path(log.name)
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )

    def end(self) -> int:
        """The exit code behind SIGTERM. Twice is once."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()


class Machine:
    """Runs commands of the image like containers."""

    def __init__(self, image: Path, folder: Path, prefix: list[str]) -> None:
        self.bin = image / "opt" / "warmroute" / "bin"
        self.folder = folder
        self.prefix = prefix
        self.port = free_port()
        variables = stages()[-1].variables() | {"ROUTER_PORT": str(self.port)}
        self.variables = variables | {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin"}
        self.running: list[Container] = []

    def start(self, *words: str, **variables: str) -> Container:
        with (self.folder / f"{words[0]}.log").open("w", encoding="utf-8") as log:
            self.running.append(Container(log, [*self.prefix, *words], self.variables | variables))
        return self.running[-1]

    def health(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What the image's HEALTHCHECK does."""
        (check,) = stages()[-1].all("HEALTHCHECK")
        command = json.loads(check.partition("CMD ")[2])
        return subprocess.run(
            [*self.prefix, *(word.replace("/opt", f"{self.bin.parents[1]}") for word in command), *words],
            env=self.variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip


@pytest.fixture
def machine(image: Path, tmp_path: Path) -> Iterator[Machine]:
    room = image / "room"
    room.mkdir(exist_ok=True)
    made = Machine(image, tmp_path, sandboxed(room))
    try:
        yield made
    finally:
        for container in made.running:
            container.process.kill()
            container.process.wait()


def test_router_and_engine_serve_without_privileges_on_a_read_only_root(
    machine: Machine, tmp_path: Path
) -> None:
    engine_port = free_port()
    engine = machine.start(
        "simulator", "serve", "--workers", "1", "--port", str(engine_port), "--speed", "50"
    )
    health = f"http://127.0.0.1:{engine_port}/health"
    eventually(lambda: machine.health(health).returncode == 0, "the engine's health check passes")
    router = machine.start("router", ROUTER_BACKEND=f"http://127.0.0.1:{engine_port}")
    eventually(lambda: machine.health().returncode == 0, f"the health check passes: {router.log.read_text()}")

    status = Path(f"/proc/{router.process.pid}/status").read_text(encoding="utf-8")
    assert re.search(r"Uid:\t65532\t65532\t65532\t65532", status)
    assert re.search(r"CapEff:\t0+\n", status)
    root = Path(f"/proc/{router.process.pid}/mountinfo").read_text(encoding="utf-8")
    assert re.search(r" / / ro,", root)
    answer = httpx.post(
        f"http://127.0.0.1:{machine.port}/v1/chat/completions",
        json={"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-router-worker"] == f"http://127.0.0.1:{engine_port}"

    assert router.end() == 0
    assert engine.end() == 0
    assert "Traceback" not in router.log.read_text(encoding="utf-8")


def test_the_health_check_fails_with_a_reason_where_nothing_serves(machine: Machine) -> None:
    answer = machine.health()
    assert answer.returncode == 1
    assert "refused" in answer.stderr
    assert "Traceback" not in answer.stderr
