"""One inference engine (a worker) as a pure object: requests and time in, events out.

Nothing here reads a clock, waits or does I/O, and nothing is random: the same calls give the same events.
`serve` drives it with real time; a discrete-event simulation can drive the same class with virtual time.

    config        what one worker is: latencies, KV capacity, limits; `DEPLOYMENTS`, of the presets
    presets       what `--preset` accepts: built-in names, and files of `simulator fit`
    cache         the paged KV cache: references, prefix hits, LRU eviction from the tail
    tree_cache    the same for prompts that are paths in a trace's tree: nodes instead of thousands of keys
    blocks        block keys: the chained identity of a token sequence
    events        what an engine tells: Admitted, FirstToken, Tokens, Finished
    sequence      a request inside an engine
    decode_batch  the sequences that decode, of which a step touches only those to which something happens
    steps         how long a step takes, and where a run of equal decode steps stands at a given time
    scheduler     what both kinds of scheduler have in common: queue, running sequences, blocks
    vllm, sglang  the two rules: who computes what in the next step
    totals        counters
    model         the engine: submit, abort, next_event_at, advance
"""

from warmroute_simulator.engine.blocks import block_keys
from warmroute_simulator.engine.cache import KVCache, PagedCache
from warmroute_simulator.engine.config import DEPLOYMENTS, Deployment, EngineConfig, EngineKind
from warmroute_simulator.engine.events import (
    Admitted,
    EngineRequest,
    Event,
    Finished,
    FinishReason,
    FirstToken,
    Tokens,
)
from warmroute_simulator.engine.model import Engine, make_engine
from warmroute_simulator.engine.totals import EngineTotals
from warmroute_simulator.engine.tree_cache import TreeCache

__all__ = [
    "DEPLOYMENTS",
    "Admitted",
    "Deployment",
    "Engine",
    "EngineConfig",
    "EngineKind",
    "EngineRequest",
    "EngineTotals",
    "Event",
    "FinishReason",
    "Finished",
    "FirstToken",
    "KVCache",
    "PagedCache",
    "Tokens",
    "TreeCache",
    "block_keys",
    "make_engine",
]
