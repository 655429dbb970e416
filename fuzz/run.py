"""Fuzzing: looks for input that breaks the router, its readers or its admin API.

    .venv/bin/python fuzz/run.py [--target front|answers|configuration|journal|admin|all] [--seconds 60]
                                 [--seed N] [--only CASE] [--json FILE]

Prints its seed. Every finding says the number of its case: `--seed S --only CASE` plays it again alone, and
what was given is kept in fuzz/found/. Exit code 1 when anything was found.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT / "fuzz"))
sys.path.insert(0, str(_ROOT / "tests"))

from fuzzing.admin import admin_target
from fuzzing.answers import answers_target
from fuzzing.configuration import configuration_target
from fuzzing.front import front_target
from fuzzing.journal import journal_target
from fuzzing.target import Opens, Outcome, run

TARGETS: dict[str, Opens] = {
    "front": front_target,
    "answers": answers_target,
    "configuration": configuration_target,
    "journal": journal_target,
    "admin": admin_target,
}

FOUND = Path(__file__).parent / "found"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the targets and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", choices=(*TARGETS, "all"), default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    names = list(TARGETS) if options.target == "all" else [options.target]
    print(f"seed {options.seed}", flush=True)
    figures: dict[str, object] = {"seed": options.seed}
    found = False
    for name in names:
        with tempfile.TemporaryDirectory() as folder, TARGETS[name](Path(folder)) as target:
            outcome = run(target, options.seed, options.seconds, options.only)
        _tell(name, options.seed, outcome)
        found = found or bool(outcome.findings)
        figures[name] = {
            "cases": outcome.cases,
            "inputs": outcome.inputs,
            "wall_s": round(outcome.wall_s, 1),
            "findings": [{"case": number, "text": str(finding)} for number, finding in outcome.findings],
        }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if found else 0


def _tell(name: str, seed: int, outcome: Outcome) -> None:
    """Prints what a target brought, and keeps what it was given."""
    print(
        f"{name}: {outcome.inputs} inputs in {outcome.cases} cases, {outcome.wall_s:.0f} s, "
        f"{len(outcome.findings)} findings",
        flush=True,
    )
    for number, finding in outcome.findings:
        print(f"  case {number}: {finding}", flush=True)
        if finding.data:
            FOUND.mkdir(exist_ok=True)
            (FOUND / f"{name}-{seed}-{number}").write_bytes(finding.data)


if __name__ == "__main__":
    sys.exit(main())
