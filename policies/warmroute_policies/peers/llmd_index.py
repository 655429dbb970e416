"""llm-d's approximate index: which server it takes to hold how much of a prompt.

    h_i = min(depth_i · block, N),     hit_i = h_i / N,     N = min(n, 131,072)
    uncached_i = n − h_i
    entries per server = the engine's number of KV pages, else 31,250;   an entry = max(64, page) tokens

Source: llm-d-router ebab687, `approx-prefix-cache-producer` (plugin.go, types.go) and the token counts that
`inflight-load-producer` makes of it. Only prompts are indexed, when they are scheduled; neither an answer
nor a report of cached tokens changes anything, and a request that failed stays. The published flaws are kept:

- `autoTune` takes as many entries as the engine has pages, but an entry is never below 64 tokens. Over an
  engine with pages of 16 the index believes in four times the cache that there is, over one with pages of
  1 in 64 times. `entry_tokens` set to the engine's page makes the belief true.
- Heads are evicted first and contiguity is not asked for: `recent_blocks` has both.

One of our blocks of 128 tokens stands for two of its 64. The last, partial block, which it hashes too, has no
counterpart: a prompt that is repeated to the letter counts as cached up to its last whole block.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmroute_policies.blocks import TOKENS_PER_BLOCK
from warmroute_policies.config import require
from warmroute_policies.fleet import Fleet
from warmroute_policies.peers.declared import Declared
from warmroute_policies.peers.lengths import block_ids, block_tokens, prompt_tokens
from warmroute_policies.peers.recent_blocks import RecentBlocks
from warmroute_policies.types import RoutingRequest
from warmroute_policies.values import Frozen


@dataclass(frozen=True, slots=True)
class LlmdIndexConfig:
    """Parameters of the index, the same for every rule that reads it (types.go, plugin.go)."""

    auto_tune: bool = True
    """Whether an engine's advertised KV cache says how many entries its server gets."""
    lru_blocks: int = 31_250
    """Entries for a server that advertises nothing: 500k tokens of an 8B model's KV in pages of 16."""
    entry_tokens: int = 64
    """The least an entry stands for (`minBlockSizeTokens`); smaller ones cost the original gigabytes."""
    match_tokens_max: int = 131_072
    """What is hashed of a prompt: the context window of large production models."""

    def __post_init__(self) -> None:
        require(self.lru_blocks >= 1, "lru_blocks must be at least 1")
        require(self.entry_tokens >= 1, "entry_tokens must be at least 1")
        require(self.match_tokens_max >= TOKENS_PER_BLOCK, "match_tokens_max must be at least a block, 128")


class PrefixMatch(Frozen, frozen=True, gc=False):
    """What the index says of one prompt."""

    prompt_tokens: int
    indexed_tokens: int
    """N: the part of the prompt that is looked up."""
    cached_tokens: dict[int, int]
    """Slot to h; slots that hold nothing are missing."""

    def hit(self, slot: int) -> float:
        """Reads. The cached share of what is looked up."""
        return self.cached_tokens.get(slot, 0) / self.indexed_tokens if self.indexed_tokens else 0.0

    def uncached(self, slot: int) -> int:
        """Reads. Tokens that the server would have to compute."""
        return self.prompt_tokens - self.cached_tokens.get(slot, 0)


class LlmdIndex:
    """State: the blocks of every server, and where its engine's cache is declared. And the last answer: a
    request is looked up when it is decided and when it is booked, with nothing between."""

    def __init__(self, config: LlmdIndexConfig) -> None:
        self._config = config
        self._blocks = RecentBlocks()
        self._declared = Declared()
        self._asked: RoutingRequest | None = None
        self._answer = PrefixMatch(0, 0, {})

    def follow(self, fleet: Fleet) -> None:
        """Writes a reference to what the engines advertise; see `declared`."""
        self._declared.follow(fleet)

    def match(self, request: RoutingRequest) -> PrefixMatch:
        """Reads."""
        if request is self._asked:
            return self._answer
        n, block = prompt_tokens(request), block_tokens(request)
        indexed = min(n, self._config.match_tokens_max)
        depths = self._blocks.depths(self._ids(request))
        self._asked = request
        self._answer = PrefixMatch(
            n, indexed, {slot: min(int(depth * block), indexed) for slot, depth in depths.items()}
        )
        return self._answer

    def add(self, request: RoutingRequest, slot: int) -> None:
        """Writes. The prompt was sent to the slot's server."""
        self._asked = None
        self._blocks.use(slot, self._ids(request), self.capacity(slot))

    def drop(self, slot: int) -> None:
        """Writes. The server is gone."""
        self._asked = None
        self._blocks.drop(slot)

    def capacity(self, slot: int) -> int:
        """Reads. How many of our blocks a server's entries make."""
        config, spec = self._config, self._declared.spec(slot)
        entries, entry_tokens = config.lru_blocks, config.entry_tokens
        if config.auto_tune and spec is not None and spec.kv_capacity_tokens is not None:
            entries = spec.kv_capacity_tokens // spec.engine_block_tokens
            entry_tokens = max(entry_tokens, spec.engine_block_tokens)
        return max(1, entries * entry_tokens // TOKENS_PER_BLOCK)

    def _ids(self, request: RoutingRequest) -> tuple[int, ...]:
        return block_ids(request, int(self._config.match_tokens_max / block_tokens(request)))
