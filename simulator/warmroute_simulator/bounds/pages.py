"""A trace as an engine's prefix cache sees it: runs of whole pages, which requests touch from the root on.

What a request does to a cache that serves one request after the other:

    position        0 ──────────── counted ──── kept
    looked up       ├─────────────────┤              whole pages of the prompt, but not its last token
    resident after  ├──────────────────────────┤     whole pages of prompt and answer, but not its last token

The last token of a prompt is always computed, and the last token of an answer never is: it was sampled,
and nobody went on from it. So a prompt of n tokens can hit at most (n − 1) // P pages of P tokens, and its
service leaves (n + output − 1) // P pages behind. Answers that nobody continues leave nothing behind here.

A *stretch* is a run of pages that every request touches as a whole or not at all: a node of the prompt tree
less the page in which it begins, cut where some answer stops short of the node's end. Nodes in which no
page ends are nothing to a cache, so paths of stretches are shorter than paths of nodes.

The size of a page, and published numbers. Hit rates of a trace whose ids stand for 512 tokens depend on what
the unfinished last block of a prompt is taken for. For the hour of Mooncake's conversations on eight workers:

                                                   endless   LRU of 8 × 250k   500k     1M     3M tokens
    P = 512: nothing, it is nobody's and takes no room   .373         .089     .185   .271   .361
    P = 16: the pages of 16 that it fills                .374         .088     .181   .268   .361
    a whole block, as published                          .374         .086     .178   .266   .361
"""

from __future__ import annotations

from array import array
from typing import Final, final

from warmroute_simulator.traces.prompts import ROOT
from warmroute_simulator.traces.trace import Trace

NO_PAGES: Final = 0
"""The stretch at the root, of no pages."""


@final
class Pages:
    """State: a row for each stretch, parents before children, and one for each request. Read only.

    Raises ValueError when `page_tokens` is not positive.
    """

    __slots__ = ("counted", "ends", "page_tokens", "parents", "prompt_tokens", "tails")

    def __init__(self, trace: Trace, page_tokens: int) -> None:
        if page_tokens < 1:
            raise ValueError(f"a page needs at least one token, not {page_tokens}")
        self.page_tokens = page_tokens
        self.parents = array("i", [-1])
        self.ends = array("i", [0])
        """By stretch: pages from the root to its end."""
        self.tails = array("i")
        """By request: the last stretch that it leaves behind."""
        self.counted = array("i")
        """By request: pages that it can hit at most."""
        self.prompt_tokens = array("i")
        """By request."""

        tree, page = trace.tree, page_tokens
        node_ends, node_parents = tree.ends, tree.parents
        # Where services stop inside a node: there it is cut.
        kept = array("i")
        cuts: dict[int, list[int]] = {}
        for prompt, answer, output in zip(trace.prompts, trace.answers, trace.output_tokens, strict=True):
            tokens = node_ends[prompt]
            self.prompt_tokens.append(tokens)
            self.counted.append(max(tokens - 1, 0) // page)
            pages = min(node_ends[answer], tokens + max(output, 1) - 1) // page
            kept.append(pages)
            if answer != prompt and pages < node_ends[answer] // page:
                cuts.setdefault(answer, []).append(pages)

        stretch_of = array("i", [NO_PAGES]) * len(node_ends)
        stops: dict[tuple[int, int], int] = {}
        for node in range(ROOT + 1, len(node_ends)):
            stretch = stretch_of[node_parents[node]]
            for cut in sorted(set(cuts[node])) if node in cuts else ():
                stretch = self._reach(stretch, cut)
                stops[node, cut] = stretch
            stretch_of[node] = self._reach(stretch, node_ends[node] // page)
        for prompt, answer, pages in zip(trace.prompts, trace.answers, kept, strict=True):
            self.tails.append(
                stops.get((answer, pages), stretch_of[answer]) if answer != prompt else stretch_of[prompt]
            )

    def _reach(self, stretch: int, end: int) -> int:
        """Writes. The stretch that ends at page `end`, below `stretch` unless that ends there."""
        if end <= self.ends[stretch]:
            return stretch
        self.parents.append(stretch)
        self.ends.append(end)
        return len(self.ends) - 1
