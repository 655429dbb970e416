"""What a router learned of its workers' speed outlives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from live.polling import PATIENCE_S, eventually
from live.processes import Router, StartEngines, StartRouter
from warmroute.prices import read_prices, write_prices
from warmroute_policies.errors import ConfigError
from warmroute_policies.latency import DEFAULT_PRESET, PRESETS, PrefillPrice

PRESET = PRESETS[DEFAULT_PRESET].price
MODEL = "llama-3.1-8b"


def linear_us(router: Router) -> float:
    workers = httpx.get(f"{router.url}/workers", trust_env=False).json()["workers"]
    return float(workers[0]["prefill_us_per_token"])


def test_prices_follow_the_engines_and_the_next_router_begins_with_them(
    start_engines: StartEngines, start_router: StartRouter, tmp_path: Path
) -> None:
    file = tmp_path / "prices.json"
    engines = start_engines(1, speed=20.0)
    flags = ("--learned-prices-file", str(file))
    router = start_router(*engines.urls, flags=flags)
    preset_us = linear_us(router)
    assert preset_us == pytest.approx(PRESET.linear_s * 1e6)
    with httpx.Client(base_url=router.url, timeout=20, trust_env=False) as client:
        for number in range(40):
            body = {"model": MODEL, "prompt": f"{number} " * 8000, "max_tokens": 2, "stream": True}
            assert client.post("/v1/completions", json=body).status_code == 200
    learned_us = eventually(
        lambda: linear_us(router) < 0.7 * preset_us and linear_us(router), "it has learned"
    )
    router.terminate()
    assert router.wait() == 0
    assert read_prices(file)[DEFAULT_PRESET].linear_s * 1e6 == pytest.approx(learned_us, abs=1e-3)
    assert linear_us(start_router(*engines.urls, flags=flags)) == pytest.approx(learned_us, abs=1e-3)
    assert linear_us(start_router(*engines.urls, flags=("--no-learn-prices", *flags))) == preset_us


def test_prices_are_read_as_they_were_written_and_a_missing_file_holds_none(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    assert read_prices(file) == {}
    prices = {"gpu": PrefillPrice(1.25e-5, 3e-10), "my/preset.json": PRESET}
    write_prices(file, prices)
    write_prices(file, prices)
    assert read_prices(file) == prices
    assert [path.name for path in tmp_path.iterdir()] == ["prices.json"]


def test_a_disk_that_fails_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_prices(tmp_path / "no such folder" / "prices.json", {})
    assert "learned prices were not written" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no file of learned prices"),
        (
            '{"schema": 1, "prices": {"gpu": {"linear_s": "x", "quadratic_s": 0}}}',
            "is no file of learned prices",
        ),
        ('{"schema": 2, "prices": {}}', "has schema 2; this release reads 1"),
        (
            '{"schema": 1, "prices": {"gpu": {"linear_s": -1, "quadratic_s": 0}}}',
            "must be of numbers from 0 on",
        ),
    ],
)
def test_a_file_that_holds_no_prices_is_refused_with_the_reason(
    tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        read_prices(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prices(tmp_path)


def test_a_router_whose_file_of_prices_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text("nonsense")
    command = [sys.executable, "-m", "warmroute", "serve", "--port", "0", "--learned-prices-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert "cannot start" in done.stderr
    assert "is no file of learned prices" in done.stderr
    assert file.read_text() == "nonsense"
