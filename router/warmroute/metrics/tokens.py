"""What is counted of prompts' token ids; where no engine tells what it holds there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

from warmroute.metrics.family import Family, label_text
from warmroute.metrics.snapshot import Snapshot


def token_families(snapshot: Snapshot) -> Iterator[Family]:
    """Reads."""
    told = Family(
        "router_tokenized_requests",
        "counter",
        "Prompts whose tokens were known before they were routed: from where an earlier turn ended (onwards) "
        "or from the beginning (whole), in a thread, or by asking an engine.",
        ("how",),
    )
    untold = Family(
        "router_untokenized_requests",
        "counter",
        "Prompts whose tokens were not known, by why (docs/exact-mode.md): routed by belief.",
        ("reason",),
    )
    seconds = Family("router_tokenize_seconds", "histogram", "Until a prompt's tokens were known.")
    checks = Family(
        "router_token_checks",
        "counter",
        "Prompts whose tokens somebody else counted too: their engine, or the router from the beginning.",
        ("by",),
    )
    wrong = Family(
        "router_token_mismatches", "counter", "Those of them that had other tokens. 0 is right.", ("by",)
    )
    waiting = Family("router_tokenize_waiting", "gauge", "Prompts that wait for a thread or an engine.")
    memory = Family("router_tokenizer_memory_bytes", "gauge", "Memory of where prompts ended, as accounted.")
    row = snapshot.tokens
    if row is not None:
        for family, label, counts in (
            (told, "how", row.told),
            (untold, "reason", row.untold),
            (checks, "by", row.checks),
            (wrong, "by", row.differences),
        ):
            for name, count in counts:
                family.add(label_text((label,), (name,)), count)
        seconds.add_histogram("", row.seconds)
        waiting.add("", row.waiting)
        memory.add("", row.memory_bytes)
    yield from (told, untold, seconds, checks, wrong, waiting, memory)
