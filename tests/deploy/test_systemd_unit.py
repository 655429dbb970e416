"""The systemd unit, read by systemd itself, and beside the router's own settings."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Final

import pytest

from deployed.dockerfile import ROOT
from deployed.settings import accepted
from deployed.tools import on_path, output, silent

FOLDER: Final = ROOT / "deploy" / "systemd"
UNIT: Final = FOLDER / "warmroute.service"
SOCKET: Final = FOLDER / "warmroute.socket"

# Of 10; systemd calls below 2.0 "OK". What is left: the network, which is the router's work.
EXPOSURE_AT_MOST: Final = 1.5


def service() -> dict[str, str]:
    """The settings that occur once."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])  # names in small letters


@pytest.mark.parametrize("name", ["warmroute.service", "warmroute@a.service"])
def test_systemd_accepts_the_unit_under_both_of_its_names(name: str, tmp_path: Path) -> None:
    analyze = on_path("systemd-analyze", "systemd")
    program = tmp_path / "router"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    text = UNIT.read_text(encoding="utf-8").replace("/opt/warmroute/bin/router", str(program))
    (tmp_path / re.sub("@.*[.]", "@.", name)).write_text(text, encoding="utf-8")
    silent(analyze, "verify", "--recursive-errors=no", tmp_path / name)


def test_the_unit_is_as_closed_as_it_says() -> None:
    analyze = on_path("systemd-analyze", "systemd")
    text = output(analyze, "security", "--offline=true", "--no-pager", UNIT)
    (level,) = re.findall(r"exposure level for \S+: (\d+\.\d+)", text)
    assert float(level) <= EXPOSURE_AT_MOST, text


def test_the_example_is_a_configuration_and_streams_get_the_time_they_are_promised() -> None:
    told = accepted("--config", str(FOLDER / "router.yaml"))
    unit = service()
    assert int(unit["timeoutstopsec"]) > told["shutdown_grace_s"]
    assert int(unit["timeoutstartsec"]) > told["health_timeout_s"]
    state = Path("/var/lib") / unit["statedirectory"]
    assert Path(told["learned_prices_file"]).parent == state


def test_two_instances_may_share_the_port_once_the_example_says_so(tmp_path: Path) -> None:
    text = (FOLDER / "router.yaml").read_text(encoding="utf-8")
    file = tmp_path / "router.yaml"
    file.write_text(text.replace("# reuse_port", "reuse_port"), encoding="utf-8")
    assert accepted("--config", str(file))["reuse_port"] is True
    assert service()["user"]  # one for both: the kernel shares a port between sockets of one user only


def test_the_examples_variables_are_settings() -> None:
    text = (FOLDER / "environment").read_text(encoding="utf-8")
    variables = dict(re.findall(r'^# (ROUTER_\w+)="(.+)"$', text, re.MULTILINE))
    told = accepted(variables=variables)
    assert (len(told["api_key"]), len(told["admin_api_key"])) == (2, 1)


def test_systemd_accepts_the_socket_beside_the_unit(tmp_path: Path) -> None:
    analyze = on_path("systemd-analyze", "systemd")
    program = tmp_path / "router"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    text = UNIT.read_text(encoding="utf-8").replace("/opt/warmroute/bin/router", str(program))
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    socket = tmp_path / SOCKET.name
    socket.write_text(SOCKET.read_text(encoding="utf-8"), encoding="utf-8")
    silent(analyze, "verify", "--recursive-errors=no", socket)


def test_the_socket_is_the_services_and_has_the_port_of_the_example() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.read(SOCKET, encoding="utf-8")
    assert SOCKET.stem == UNIT.stem  # so systemd knows whose it is
    told = accepted("--config", str(FOLDER / "router.yaml"))
    assert parser["Socket"]["listenstream"] == str(told["port"])
    assert "accept" not in parser["Socket"], "one router for all connections"


def test_an_error_in_the_configuration_is_not_tried_again() -> None:
    from warmroute.cli import USAGE

    assert service()["restartpreventexitstatus"] == str(USAGE)
