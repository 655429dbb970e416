"""The trace that a command works on: a file in any format, or one that is made up on the spot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from warmroute_simulator.traces.formats import AUTO, FORMATS, ReadOptions, read_trace
from warmroute_simulator.traces.trace import Trace

GENERATE: Final = "generate:"


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes. What to read, and how."""
    add = parser.add_argument
    add("trace", metavar="TRACE",
        help="a trace file (also .gz and .zst), or generate:NAME[:param=value,...]")  # fmt: skip
    options = parser.add_argument_group("reading the trace").add_argument
    options("--format", choices=(AUTO, *FORMATS), default=AUTO, metavar="NAME",
        help=f"{AUTO}, the default, looks at the first line; else {', '.join(FORMATS)}")  # fmt: skip
    options("--trace-block-tokens", type=int, metavar="N",
        help="tokens for which an id of the file stands (default: what is usual in the format)")  # fmt: skip
    options("--share-prefixes", action="store_true",
        help="agentic sessions with equally long tool definitions and system prompts share them")  # fmt: skip
    options("--contents", action="store_true",
        help="ids name what is in a block and not all that comes before it")  # fmt: skip
    options("--skip-bad", action="store_true", help="count and pass over malformed lines")
    options("--limit", type=int, metavar="N", help="only the first N requests")


def trace_of(arguments: argparse.Namespace) -> Trace:
    """The trace that was asked for. `arguments.seed`, where the command has one, is that of a made-up trace.

    Raises ValueError, of which TraceError is one, with a message for the user.
    """
    options = ReadOptions(
        format=arguments.format,
        block_tokens=arguments.trace_block_tokens,
        share_prefixes=arguments.share_prefixes,
        contents=arguments.contents,
        skip_bad=arguments.skip_bad,
        limit=arguments.limit,
    )
    text: str = arguments.trace
    if not text.startswith(GENERATE):
        return read_trace(Path(text), options)
    from warmroute_simulator.generators.registry import generate

    trace = generate(text.removeprefix(GENERATE), getattr(arguments, "seed", 0))
    return trace if options.limit is None else trace.head(options.limit)
