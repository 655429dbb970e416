"""The `router` command: what it accepts, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warmroute import cli
from warmroute.compiled import is_compiled
from warmroute.config import peers
from warmroute.config.flags import GIVEN
from warmroute.config.settings import FIELDS, flag_of


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ROUTER_"):
            monkeypatch.delenv(name)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, object]]:
    """`router config` with these flags, as JSON."""
    assert cli.main(["config", "--json", "-", *words]) == cli.OK
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines of a usage error."""
    assert cli.main(words) == cli.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_list_flag_may_be_repeated_and_may_take_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    document = shown(capsys, "--backend", "http://a:1", "http://b:1", "--backend", "http://c:1,weight=2")
    backends = document["backend"]["value"]
    assert isinstance(backends, list)
    assert [b["url"] for b in backends] == ["http://a:1", "http://b:1", "http://c:1"]


def test_the_last_use_of_a_scalar_flag_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--port", "1", "--port=2")["port"] == {"value": 2, "source": "--port"}


def test_a_switch_goes_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--access-log")["access_log"] == {"value": True, "source": "--access-log"}
    off = shown(capsys, "--no-model-discovery")["model_discovery"]
    assert off == {"value": False, "source": "--no-model-discovery"}


def test_sglang_routers_flags_set_what_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    document = shown(
        capsys,
        *("--worker-urls", "http://a:1", "http://b:1", "--policy", "cache_aware", "--host", "0.0.0.0"),
        *("--health-check-interval-secs", "60", "--health-failure-threshold", "4"),
        *("--request-timeout-secs", "600", "--max-payload-size", "1000000", "--log-level", "warn"),
    )
    assert document["backend"]["source"] == "--worker-urls"
    values = {
        name: document[name]["value"]
        for name in ("health_interval_s", "health_fall", "total_timeout_s", "max_body_bytes", "log_level")
    }
    assert values == {
        "health_interval_s": 60.0,
        "health_fall": 4,
        "total_timeout_s": 600.0,
        "max_body_bytes": 1000000,
        "log_level": "warning",
    }


def test_no_worker_urls_at_all_is_what_sglang_router_accepts_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--worker-urls")["backend"]["value"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bakend", "http://a:1"], "unknown flag --bakend; did you mean --backend?"),
        (["serve", "--polcy=random"], "unknown flag --polcy; did you mean --policy?"),
        (["serve", "http://a:1"], "unexpected argument 'http://a:1'"),
        (["server"], "there is no command 'server': start the engines by themselves"),
        (["serv"], "there is no command 'serv'; did you mean serve?"),
        (["--backend"], "argument --backend: expected at least one argument"),
        (["--port", "x"], "--port: expected a whole number from 0 to 65535 (0: any free port), got 'x'"),
        (["--por", "1"], "unknown flag --por; did you mean --port?"),
        (["demo", "--speed", "0"], "argument --speed: expected a number above 0, got '0'"),
        (["demo", "--speed", "fast"], "argument --speed: expected a number above 0, got 'fast'"),
        (["config", "--json", "/nowhere/x.json"], "--json /nowhere/x.json: cannot be written"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (line,) = refused(capsys, *words)
    assert line.startswith(f"router: error: {said}")


def test_help_lists_every_setting_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["serve", "--help"])
    assert caught.value.code == cli.OK
    text = capsys.readouterr().out
    assert all(f"  {flag_of(name)}" in text for name in FIELDS)
    listed = {line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  --")}
    assert not listed & (set(peers.OWNERS) - {flag_of(name) for name in FIELDS})


def test_without_a_command_the_overview_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == cli.OK
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in cli.COMMANDS)


@pytest.mark.parametrize("name", ["router", "warmroute"])
def test_the_installed_command_tells_its_version(name: str) -> None:
    command = [str(Path(sys.executable).with_name(name)), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (cli.OK, "warmroute")
    assert done.stdout.endswith("(compiled)\n" if is_compiled() else "(interpreted)\n")


def test_python_runs_the_package_as_the_command() -> None:
    command = [sys.executable, "-m", "warmroute", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (cli.OK, "warmroute")


def test_config_writes_json_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--json", str(tmp_path / "c.json")]) == cli.OK
    assert capsys.readouterr().out == ""
    assert set(json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))) == set(FIELDS)


def test_serve_is_the_command_when_none_is_named() -> None:
    namespace = cli.settings_parser("serve").parse_words(["--port", "1"])
    assert getattr(namespace, GIVEN)["port"].value == "1"
