"""Which formats there are, how a file's first line tells its format, and the one way to read any of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from warmroute_simulator.traces.checks import remarks, sort_arrivals, start_at_zero
from warmroute_simulator.traces.files import TraceError, numbered_lines
from warmroute_simulator.traces.options import AUTO, ReadOptions
from warmroute_simulator.traces.source import Source
from warmroute_simulator.traces.trace import Trace

__all__ = ["AUTO", "FORMATS", "Format", "ReadOptions", "TraceError", "detect", "read_trace"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format and the module that reads it, with a function `read(source) -> Trace`."""

    name: str
    module: str
    about: str

    def reader(self) -> Callable[[Source], Trace]:
        """Reads. Imported when it is needed: a command reads one format."""
        module = importlib.import_module(f"warmroute_simulator.traces.{self.module}")
        return cast("Callable[[Source], Trace]", module.read)


FORMATS: Final[Mapping[str, Format]] = {
    found.name: found
    for found in (
        Format(
            "mooncake", "mooncake", "Mooncake and AIPerf: lengths and ids of 512-token blocks, JSON lines"
        ),
        Format("bailian", "bailian", "Qwen-Bailian: chats with ids of 16-token blocks, JSON lines"),
        Format("agentic", "agentic", "coding sessions with think times and sub-agents, closed loop, JSON"),
        Format("azure", "tables", "Azure LLM inference: arrivals and lengths, CSV"),
        Format("burstgpt", "tables", "BurstGPT: arrivals and lengths, CSV"),
        Format("texts", "texts", "OpenAI-like requests with `messages` or `prompt`, JSON lines"),
        Format(
            "vllm_bench", "vllm_bench", "planned arrivals, lengths and ids of 16-token blocks, JSON lines"
        ),
        Format("journal", "journal", "what the router recorded with --journal"),
        Format("chunks", "chunks", "this simulator's own: prompts as lists of chunks, exact, JSON lines"),
    )
}

# The keys of one line that no other format has, in the order in which they are asked for.
_KEYS: Final[tuple[tuple[frozenset[str], str], ...]] = (
    (frozenset({"format", "version"}), "chunks"),
    (frozenset({"chunks"}), "chunks"),
    (frozenset({"e"}), "journal"),
    (frozenset({"requests"}), "agentic"),
    (frozenset({"chat_id"}), "bailian"),
    (frozenset({"input_toks"}), "vllm_bench"),
    (frozenset({"input_length"}), "mooncake"),
    (frozenset({"messages"}), "texts"),
    (frozenset({"prompt"}), "texts"),
    (frozenset({"text_input"}), "texts"),
    (frozenset({"body"}), "texts"),
    (frozenset({"ContextTokens"}), "azure"),
    (frozenset({"Request tokens"}), "burstgpt"),
)

# The first lines may be malformed, and are then reported by the format's reader or passed over.
_LINES_LOOKED_AT: Final = 5


def detect(path: Path) -> str:
    """The name of the format that a file's first lines are in. Raises TraceError."""
    seen = 0
    keys: frozenset[str] = frozenset()
    for _, line in numbered_lines(path):
        keys = _keys_of(line)
        for needed, name in _KEYS:
            if needed <= keys:
                return name
        if line.lstrip().startswith(b"{") and not keys and seen == 0:
            # A document over several lines: sessions are published so.
            return "agentic"
        seen += 1
        if seen == _LINES_LOOKED_AT:
            break
    if not seen:
        raise TraceError(path.name, 0, None, "at least one request", "an empty file")
    found = (
        "fields " + ", ".join(f"`{key}`" for key in sorted(keys))
        if keys
        else "neither JSON nor a known header"
    )
    raise TraceError(
        path.name, 1, None, f"a line in one of the formats {', '.join(FORMATS)} (--format)", found
    )


def read_trace(path: Path, options: ReadOptions | None = None) -> Trace:
    """A trace from a file in any known format.

    Raises TraceError for what is wrong with the file, ValueError for an unknown format.
    """
    options = ReadOptions() if options is None else options
    if options.format != AUTO and options.format not in FORMATS:
        raise ValueError(f"--format must be {AUTO} or one of {', '.join(FORMATS)}, not {options.format}")
    name = detect(path) if options.format == AUTO else options.format
    source = Source(path, options)
    trace = FORMATS[name].reader()(source)
    if not len(trace):
        raise TraceError(source.name, 0, None, "at least one request", "\n".join(source.notes()) or "none")
    if options.limit is not None and len(trace) > options.limit:
        trace = trace.head(options.limit)
    sort_arrivals(trace)
    trace.skipped += source.skipped
    trace.notes += source.notes()
    if name != "chunks":  # which holds a trace that was looked over, arrivals and notes included
        start_at_zero(trace)
        trace.notes += remarks(trace)
    return trace


def _keys_of(line: bytes) -> frozenset[str]:
    """Names of the fields of a JSON object or of a CSV header; none when it is neither."""
    try:
        value: Any = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        text = line.decode(errors="replace").strip()
        return (
            frozenset(name.strip() for name in text.split(","))
            if "," in text and "{" not in text
            else frozenset()
        )
    return frozenset(value) if isinstance(value, dict) else frozenset()
