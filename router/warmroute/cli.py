"""The `router` command: `serve` (the default), `launch`, `top`, `demo` and `config`.

Exit codes: 0 ok, 1 ran and failed, 2 usage. What a subcommand needs is imported when it runs, so that
`--help` and a usage error are immediate.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from warmroute.config import peers
from warmroute.config.flags import Parser, add_settings, settled
from warmroute.config.peers import environment
from warmroute.config.settings import variable_of
from warmroute.config.sources import Given, Resolved, UsageError, did_you_mean, load
from warmroute_policies.errors import ConfigError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

COMMANDS: Final = {
    "serve": "run the router (the default)",
    "launch": "the same, listening where `sglang-router launch` does by default",
    "top": "what a running router does, live in this terminal",
    "demo": "four built-in engines, a router and traffic; no GPU",
    "config": "print every setting and where its value came from",
}

OVERVIEW: Final = """\
usage: router [serve] --backend URL [--backend URL ...] [options]
       router top [options]
       router demo [options]
       router config [options]

A router for fleets of LLM inference engines: every request goes to the worker that holds its prefix, unless
that worker is busier than the recompute is worth.

commands:
{commands}

  router COMMAND --help   the options of one command; `warmroute` and `python -m warmroute` are the same
  router --version        the version, and whether its hot modules run compiled
"""

PRECEDENCE: Final = """\
Flags win over ROUTER_* variables (--idle-timeout-s is ROUTER_IDLE_TIMEOUT_S, lists are words), those over the
file (idle_timeout_s: 300), that over the defaults in brackets. Flags of sglang-router, vllm-router and smg
are accepted where they mean the same: --worker-urls, --request-timeout-secs and others (docs/drop-in.md)."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `router demo` is asked to do."""

    once: bool = False
    """End after both policies were measured, instead of keeping the URL up."""
    json: Path | None = None
    """Where the figures go; None: only to the terminal."""
    speed: float = 1.0
    """How many times faster than the measured GPU the engines run."""
    port: int = 30000
    """The router's port; the engines take free ones."""
    duration_s: float = 20.0
    """Traffic per policy."""
    seed: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except (UsageError, ConfigError) as error:
        problems = error.problems if isinstance(error, UsageError) else (str(error),)
        for problem in problems:
            print(f"router: error: {problem}", file=sys.stderr)
        return USAGE


def _dispatch(words: list[str]) -> int:
    if words and words[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())
        print(OVERVIEW.format(commands=commands), end="")
        return OK
    if words and words[0] == "--version":
        from warmroute.compiled import is_compiled

        print(f"warmroute {version('warmroute')} ({'compiled' if is_compiled() else 'interpreted'})")
        return OK
    command = "serve"
    if words and not words[0].startswith("-"):
        command = words.pop(0)
    if command == "serve":
        return _serve(words)
    if command == "launch":
        return _serve(words, peers.LAUNCH)
    if command == "config":
        return _config(words)
    if command == "top":
        return _top(words)
    if command == "demo":
        return _demo(words)
    if command == "server":  # sglang-router's
        raise UsageError(
            "there is no command 'server': start the engines by themselves, then `router launch`"
        )
    raise UsageError(f"there is no command {command!r}{did_you_mean(command, COMMANDS)}")


def settings_parser(command: str) -> Parser:
    """The parser of `serve` and `config`: both take every setting."""
    parser = Parser(
        prog=f"router {command}",
        usage=f"router {command} --backend URL [--backend URL ...] [options]",
        description=PRECEDENCE,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in YAML or TOML [$ROUTER_CONFIG]"
    )
    add_settings(parser)
    return parser


def resolve(options: argparse.Namespace, defaults: Mapping[str, str] | None = None) -> Resolved:
    """Reads the environment and the file. `defaults` count where nobody says otherwise."""
    resolved, notes = _resolved(options, defaults)
    for note in (*notes, *environment.notes(os.environ)):
        print(f"router: {note}", file=sys.stderr)
    return resolved


def _resolved(
    options: argparse.Namespace, defaults: Mapping[str, str] | None
) -> tuple[Resolved, Sequence[str]]:
    """What counts now, and what is to be said of the flags."""
    given, notes = settled(options)
    resolved = load(given, options.config)
    missing = {
        name: Given(value, "router launch")
        for name, value in (defaults or {}).items()
        if resolved.origins[name] == "default"
    }
    return (load({**missing, **given}, options.config) if missing else resolved), notes


def _serve(words: list[str], defaults: Mapping[str, str] | None = None) -> int:
    options = settings_parser("serve").parse_words(words)
    resolved = resolve(options, defaults)
    from warmroute import app

    return app.run(resolved.settings, lambda: _resolved(options, defaults)[0].settings)


def _config(words: list[str]) -> int:
    parser = settings_parser("config")
    parser.add_argument("--json", metavar="FILE", help="write JSON to FILE (- is the terminal)")
    options = parser.parse_words(words)
    resolved = resolve(options)
    from rich.console import Console

    from warmroute.config import show
    from warmroute.config.policies import check_policies

    check_policies(resolved.settings)

    if options.json == "-":
        print(show.as_json(resolved), end="")
    elif options.json is not None:
        _write(Path(options.json), show.as_json(resolved))
    elif sys.stdout.isatty():
        show.as_table(resolved, Console())
    else:
        print(show.as_lines(resolved), end="")
    return OK


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written: {error.strerror}") from None


def _top(words: list[str]) -> int:
    from warmroute.top.options import Options

    defaults = Options()
    parser = Parser(prog="router top", usage="router top [options]", description=COMMANDS["top"])
    parser.add_argument(
        "--url", type=_http_url, default=defaults.url, metavar="URL", help=f"the router's [{defaults.url}]"
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=_key_in_environment(),
        help="an admin key of the router [$ROUTER_ADMIN_API_KEY, else $ROUTER_API_KEY]",
    )
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write one snapshot there (- is the terminal) and end"
    )
    parser.add_argument(
        "--interval-s",
        type=_above_zero,
        default=defaults.interval_s,
        metavar="SECONDS",
        help=f"between two pictures [{defaults.interval_s:g}]",
    )
    options = Options(**vars(parser.parse_words(words)))
    from warmroute.top import live

    return live.run(options)


def _key_in_environment() -> str | None:
    """The first one: a router may have several."""
    for name in ("admin_api_key", "api_key"):
        keys = os.environ.get(variable_of(name), "").split()
        if keys:
            return keys[0]
    return None


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"expected a URL that begins with http:// or https://, got {text!r}")
    return text


def _demo(words: list[str]) -> int:
    defaults = DemoOptions()
    parser = Parser(prog="router demo", usage="router demo [options]", description=COMMANDS["demo"])
    parser.add_argument("--once", action="store_true", help="end after the measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--speed",
        type=_above_zero,
        default=defaults.speed,
        metavar="X",
        help=f"engines X times faster [{defaults.speed:g}]",
    )
    parser.add_argument(
        "--port", type=int, default=defaults.port, metavar="PORT", help=f"the router's port [{defaults.port}]"
    )
    parser.add_argument(
        "--duration-s",
        type=_above_zero,
        default=defaults.duration_s,
        metavar="SECONDS",
        help=f"per policy [{defaults.duration_s:g}]",
    )
    parser.add_argument(
        "--seed", type=int, default=defaults.seed, metavar="N", help=f"of the traffic [{defaults.seed}]"
    )
    options = DemoOptions(**vars(parser.parse_words(words)))
    from warmroute import demo

    return demo.run(options)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
