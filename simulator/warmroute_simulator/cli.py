"""The `simulator` command. Exit codes: 0 ok, 1 ran and failed, 2 usage.

Each sub-command is a module of `commands`, imported when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from warmroute_policies.errors import ConfigError
from warmroute_simulator.simulation.collector import rare_collections
from warmroute_simulator.traces.files import TraceError

COMMANDS = {
    "replay": "play a trace against one policy",
    "compare": "several policies, loads and seeds, with confidence intervals",
    "sweep": "raise the load until past the knee: goodput under limits on TTFT and TPOT",
    "tune": "search a policy's parameters and the size of the fleet",
    "bounds": "what no router can beat on a trace",
    "fit": "latency coefficients from what was measured",
    "generate": "made-up traces: chat, agents, RAG, shared prefixes, mixes",
    "serve": "engines without GPUs behind HTTP, in real time",
}
"""Name to what it does; the module of that name in `commands` does it."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, but not that there is none, and not twice."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.default or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    arguments_given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="simulator",
        description="Replay traffic against a routing policy before it is deployed; engines without GPUs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = arguments_given[0] if arguments_given and arguments_given[0] in COMMANDS else None
    for name, what in COMMANDS.items():
        sub = commands.add_parser(name, help=what, formatter_class=_Help)
        if name == asked:
            module = importlib.import_module(f"warmroute_simulator.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run, parser=sub)
    arguments = parser.parse_args(arguments_given)
    try:
        _check_folders(arguments)
        with rare_collections():
            return int(arguments.run(arguments))
    except (TraceError, ConfigError, ValueError) as error:
        # What the user gave is wrong: the message says what was expected.
        print(f"simulator {arguments.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"simulator {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"simulator {arguments.command}: interrupted", file=sys.stderr)
        return 1


def _check_folders(arguments: argparse.Namespace) -> None:
    """Before the work, not after it: raises ValueError for a result that could not be written."""
    for option in ("json", "csv", "html", "out"):
        file = getattr(arguments, option, None)
        if isinstance(file, Path) and not file.parent.is_dir():
            raise ValueError(f"--{option} {file}: there is no folder {file.parent}")
