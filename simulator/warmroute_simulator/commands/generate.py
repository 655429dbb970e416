"""`simulator generate`: a made-up trace as a file, and what is in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.registry import available, generate, generate_file, parameters_of
from warmroute_simulator.generators.summary import TraceSummary, summarise
from warmroute_simulator.report import words
from warmroute_simulator.report.progress import Progress
from warmroute_simulator.traces.chunks import lines_of
from warmroute_simulator.traces.files import TraceError, writing
from warmroute_simulator.traces.trace import Trace

HELP: Final = "make up a trace: chats, agents, shared prefixes, retrieval, or a mix"

_SCHEMA: Final = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes."""
    add = parser.add_argument
    add("generator", nargs="?", metavar="NAME[:param=value,...]", help=f"one of {', '.join(available())}")
    add("--spec", type=Path, metavar="FILE", help="a mix of several, from a YAML or JSON file")
    add("--list", action="store_true", help="show all generators with their parameters and defaults")
    add("--seed", type=int, default=0, help="equal seeds make equal traces")
    add("--out", type=Path, metavar="FILE",
        help="write the trace there, packed if it ends in .gz or .zst")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write what it holds there")


def run(arguments: argparse.Namespace) -> int:
    """Exit code, 1 when a file cannot be written. Raises ConfigError with a message for the user."""
    if arguments.list:
        if arguments.generator or arguments.spec:
            raise ConfigError("--list takes no generator")
        print("\n".join(_listed()))
        return 0
    trace = _generated(arguments)
    try:
        if arguments.out is not None:
            _write(trace, arguments.out)
        summary = summarise(trace)
        if arguments.json is not None:
            _write_json(summary, arguments.seed, arguments.json)
    except (TraceError, OSError) as error:
        print(f"simulator generate: {error}", file=sys.stderr)
        return 1
    print("\n".join(_told(summary, arguments.seed, arguments.out)))
    return 0


def _generated(arguments: argparse.Namespace) -> Trace:
    """Raises ConfigError."""
    if (arguments.generator is None) == (arguments.spec is None):
        raise ConfigError("expected either a generator or --spec FILE; --list shows the generators")
    if arguments.spec is not None:
        return generate_file(arguments.spec, arguments.seed)
    return generate(arguments.generator, arguments.seed)


def _write(trace: Trace, path: Path) -> None:
    """Raises TraceError."""
    with writing(path) as file, Progress(len(trace), "requests written") as progress:
        for line in lines_of(trace):
            file.write(line)
            progress.advance()


def _write_json(summary: TraceSummary, seed: int, path: Path) -> None:
    import msgspec

    content = {"schema": _SCHEMA, "seed": seed, **asdict(summary), "reuse": summary.reuse}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _told(summary: TraceSummary, seed: int, out: Path | None) -> Iterator[str]:
    loop = "closed loop" if summary.closed_loop else "open loop"
    yield f"{summary.trace} · seed {seed} · {loop}"
    sessions = f" in {words.count(summary.sessions)} sessions" if summary.sessions else ""
    begin = "sessions begin" if summary.closed_loop else "they come"
    requests = words.count(summary.requests)
    yield f"  requests        {requests}{sessions}; {begin} within {words.seconds(summary.span_s)}"
    mean = words.count(summary.prompt_tokens / max(1, summary.requests))
    longest = words.count(summary.longest_tokens)
    yield f"  prompt tokens   {words.count(summary.prompt_tokens)}, {mean} on average"
    yield f"  output tokens   {words.count(summary.output_tokens)}; longest prompt and answer {longest}"
    yield f"  reuse           {words.percent(summary.reuse)} of the prompt tokens, in one endless cache"
    for note in summary.notes:
        yield f"  note: {note}"
    if out is not None:
        yield f"  written to {out}"


def _listed() -> Iterator[str]:
    for name, line in available().items():
        yield f"{name}: {line}"
        rows = parameters_of(name)
        widths = max(len(row.name) for row in rows), max(len(row.default) for row in rows)
        for row in rows:
            yield f"  {row.name:{widths[0]}}  {row.default:{widths[1]}}  {row.meaning}".rstrip()
        yield ""
    yield "Lengths and times: 6000, 200-8000, or lognormal(MEDIAN,SIGMA,LOW,HIGH)."
    yield "For example: simulator generate chat:turns=2-6,requests=1000 --out chat.jsonl.gz"
