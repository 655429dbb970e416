"""A benchmark's plan: a line of JSON per request, with planned arrival, lengths and ids of full blocks.

    {"request_id": "bench-0", "arrival_s": 0.047, "input_toks": 2358, "output_toks": 531, "block_ids": [0, 1]}

Ids stand for a block of 16 tokens and all before it; the unfinished last block has none.
"""

from __future__ import annotations

from typing import Final

import msgspec

from warmroute_simulator.traces.named_blocks import NamedBlocks
from warmroute_simulator.traces.prompts import PromptTree
from warmroute_simulator.traces.source import BAD_LINE, OutputTokens, PromptTokens, Seconds, Source
from warmroute_simulator.traces.trace import Trace

BLOCK_TOKENS: Final = 16


class _Line(msgspec.Struct, gc=False):
    input_toks: PromptTokens
    output_toks: OutputTokens
    arrival_s: Seconds
    block_ids: list[int] = []


def read(source: Source) -> Trace:
    """A plan as a trace, open loop. Raises TraceError."""
    trace = Trace(source.name, PromptTree())
    prompts = NamedBlocks(source, BLOCK_TOKENS, "block_ids")
    decode = msgspec.json.Decoder(_Line).decode
    for number, text in source.lines():
        if source.enough(trace):
            break
        try:
            line = decode(text)
            prompt = prompts.add(number, line.block_ids, line.input_toks)
        except BAD_LINE as error:
            source.reject(number, text, error)
            continue
        if not line.output_toks:
            source.count("requests without an answer are taken to have one token of it")
        trace.add(prompt, max(1, line.output_toks), arrival_s=line.arrival_s)
    trace.tree, leaves = prompts.tree()
    trace.prompts, trace.answers = leaves, leaves[:]
    return trace
