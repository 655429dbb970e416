"""A real Prometheus and promtool: on PATH, else fetched once from Debian, else the test is skipped."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from live.fetched import put_in_place
from live.polling import PATIENCE_S, eventually
from warmroute.demo.processes import free_port

_CACHE: Final = Path(__file__).parents[2] / ".cache" / "prometheus"
_FETCH_WITHIN_S: Final = 120.0
"""20 MB from a package mirror."""


def tool(name: str) -> str:
    """The path of `prometheus` or `promtool`. Skips the test where there is none and none can be fetched."""
    path = shutil.which(name) or shutil.which(name, path=_CACHE / "usr" / "bin") or _fetched(name)
    if path is None:
        pytest.skip(f"no {name} on PATH, and `apt-get download prometheus` does not work here")
    return path


@cache
def _fetched(name: str) -> str | None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return None
    _CACHE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE.parent) as folder:
        new = Path(folder) / "prometheus"
        try:
            _quietly("apt-get", "download", "prometheus", cwd=folder)
            (package,) = Path(folder).glob("prometheus_*.deb")
            _quietly("dpkg", "-x", str(package), str(new), cwd=folder)
        except (subprocess.SubprocessError, ValueError):
            return None
        put_in_place(new, _CACHE)
    return shutil.which(name, path=_CACHE / "usr" / "bin")


def _quietly(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=_FETCH_WITHIN_S)


@dataclass
class Prometheus:
    """A running server, asked as Grafana does."""

    http: httpx.Client

    def now(self, expr: str) -> list[float]:
        """The values of an instant query."""
        return [float(series["value"][1]) for series in self._series("query", query=expr)]

    def over(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[float]:
        """All values of a range query."""
        window = {"start": str(start_s), "end": str(end_s), "step": str(step_s)}
        found = self._series("query_range", query=expr, **window)
        return [float(value) for series in found for _, value in series["values"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule and how its last evaluation went."""
        answer = self.http.get("/api/v1/rules")
        return [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]

    def _series(self, kind: str, **parameters: str) -> list[dict[str, Any]]:
        answer = self.http.post(f"/api/v1/{kind}", data=parameters)
        document = answer.json()
        assert document["status"] == "success", (parameters, document)
        result = document["data"]["result"]
        if document["data"]["resultType"] == "scalar":
            result = [{"value": result}]
        return list(result)


def says_something(values: list[float]) -> bool:
    """Whether a query has returned a number. Infinity is one: a capacity that is not known."""
    return any(not math.isnan(value) for value in values)


@contextmanager
def prometheus(config: Path, log: Path) -> Iterator[Prometheus]:
    """A server on loopback that keeps its data beside its configuration."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        tool("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        f"--web.listen-address={address}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE_S) as http:

            def ready() -> bool:
                assert process.poll() is None, f"Prometheus ended:\n{log.read_text()}"
                try:
                    return http.get("/-/ready").is_success
                except httpx.TransportError:
                    return False

            eventually(ready, "Prometheus is ready")
            yield Prometheus(http)
    finally:
        process.kill()
        process.wait()
