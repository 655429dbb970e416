"""Options and habits that `compare`, `sweep` and `tune` share: policies, seeds, processes, where traces come
from in other processes, and what becomes of a run that fails."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from warmroute_policies.events import PolicySpec
from warmroute_policies.plugins import load_policy
from warmroute_policies.spelling import parse_policy
from warmroute_simulator.commands.inputs import GENERATE, trace_of
from warmroute_simulator.commands.running import setup_of
from warmroute_simulator.study.cell import Setup
from warmroute_simulator.traces.trace import Trace

if TYPE_CHECKING:
    from warmroute_simulator.study.task import Result

MAX_SEEDS: Final = 1000
"""More would change no digit of an interval; a slip of the finger should not cost a day."""


@dataclass(frozen=True, slots=True)
class TraceArguments:
    """The trace of a command line, as a value that another process can read it from."""

    options: tuple[tuple[str, object], ...]
    made_up: bool
    """Every seed has a trace of its own."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> TraceArguments:
        # What the parser itself keeps there is nothing to send.
        options = {name: value for name, value in vars(arguments).items() if name not in ("run", "parser")}
        return cls(tuple(options.items()), str(arguments.trace).startswith(GENERATE))

    def read(self, seed: int) -> Trace:
        """Raises ValueError, TraceError, ConfigError or OSError with a message for the user."""
        return trace_of(argparse.Namespace(**dict(self.options) | {"seed": seed}))

    def key(self, seed: int) -> int:
        return seed if self.made_up else 0


def add_policy_arguments(parser: argparse.ArgumentParser, default: Iterable[str]) -> None:
    """Writes. Several policies."""
    group = parser.add_argument_group("policies")
    group.add_argument("--policy", action="append", default=[], metavar="NAME[:param=value,…]",
        help="any policy of the router; may be repeated")  # fmt: skip
    group.add_argument("--policies", metavar="NAME,…", default="",
        help=f"names alone, behind commas (default of both: {', '.join(default)})")  # fmt: skip


def add_study_arguments(parser: argparse.ArgumentParser, seeds: int, what_for: str) -> None:
    """Writes. Seeds and processes."""
    group = parser.add_argument_group("runs")
    several = group.add_mutually_exclusive_group()
    several.add_argument(
        "--seeds", type=int, default=seeds, metavar="N", help=f"{what_for}: seeds 0 to N − 1"
    )
    several.add_argument("--seed-list", metavar="N,…", help="these seeds")
    group.add_argument("--processes", type=int, default=_cores(), metavar="N",
        help="runs at a time; results do not depend on it")  # fmt: skip


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes. Where results go. A study has no rows of single requests."""
    add = parser.add_argument_group("results").add_argument
    add("--json", type=Path, metavar="FILE", help="write all results there")
    add("--html", type=Path, metavar="FILE", help="write one page with plots there")
    add("--quiet", action="store_true", help="no table on the terminal")


def policies_of(arguments: argparse.Namespace, default: Iterable[str]) -> list[PolicySpec]:
    """`--policies` first, then each `--policy`. Raises ValueError and ConfigError, also for a policy that
    cannot be made: nobody wants to learn of it after an hour."""
    texts = [name.strip() for name in arguments.policies.split(",") if name.strip()] + arguments.policy
    policies = [checked(text) for text in texts or default]
    for place, policy in enumerate(policies):
        if policy in policies[:place]:
            raise ValueError(f"policy {policy.name} is given twice with the same parameters")
    return policies


def checked(text: str) -> PolicySpec:
    """A policy that can be made. Raises ValueError, ConfigError."""
    policy = parse_policy(text)
    load_policy(policy.name, policy.params)
    return policy


def seeds_of(arguments: argparse.Namespace) -> list[int]:
    """Raises ValueError."""
    if arguments.seed_list is None:
        if not 1 <= arguments.seeds <= MAX_SEEDS:
            raise ValueError(f"--seeds must be 1 to {MAX_SEEDS}, not {arguments.seeds}")
        return list(range(arguments.seeds))
    seeds = [int(number) for number in numbers_of("--seed-list", arguments.seed_list, int)]
    if len(set(seeds)) < len(seeds):
        raise ValueError("--seed-list names a seed twice")
    return seeds


def numbers_of(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    """Numbers behind commas. Raises ValueError."""
    try:
        found = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{option}: expected numbers behind commas, not {text!r}") from None
    if not found:
        raise ValueError(f"{option} names no number")
    return found


def shares_of(option: str, text: str) -> list[float]:
    """Shares above 0 and at most 1, behind commas. Raises ValueError."""
    found = numbers_of(option, text, float)
    if not all(0 < share <= 1 for share in found):
        raise ValueError(f"{option}: shares are above 0 and at most 1, not {text!r}")
    return found


def setup_with_load(arguments: argparse.Namespace) -> Setup:
    """The setup of a command whose runs have a load each. Raises ValueError."""
    return setup_of(argparse.Namespace(**vars(arguments) | {"load": 1.0}))


def fails(arguments: argparse.Namespace, error: Exception, *, usage: bool) -> int:
    """Says why, for people; the exit code."""
    print(f"simulator {arguments.command}: {error}", file=sys.stderr)
    return 2 if usage else 1


def write_json(path: Path | None, found: object) -> None:
    """Writes. All of a study's results, where they were asked for."""
    if path is not None:
        import msgspec

        path.write_bytes(msgspec.json.encode(found))


def write_page(path: Path, results: Iterable[Result], **options: object) -> None:
    """Writes. The page of those runs that have curves; says so where none has, as when Ctrl-C came early."""
    from warmroute_simulator.report.page import Panel, page

    panels = [Panel(result.report, result.curves) for result in results if result.curves is not None]
    if panels:
        path.write_text(page(panels, **options), encoding="utf-8")  # type: ignore[arg-type]
    else:
        print(f"{path} is not written: there is no run that it could show", file=sys.stderr)
