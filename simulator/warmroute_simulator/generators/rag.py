"""Retrieval: a system prompt, k documents of a common stock, and a question.

    root ── system prompt ──┬── document 7 ──┬── document 2 ── question
                            │                └── document 9 ── question
                            └── document 2 ── document 7 ── question

Documents stand in the order in which they were ranked, so two prompts share only as many documents as begin
both lists alike: document 2 above is computed twice, and once more for each place where it comes to stand.

The tree is made when all rankings are known, from the root on. A ranking that nobody else begins with needs
one node for all that follows, and no table of nodes by prefix is kept.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, Final, Self

from warmroute_simulator.generators.lengths import LONGEST, Lengths
from warmroute_simulator.generators.popularity import Popularity, require_exponent
from warmroute_simulator.generators.workload import (
    REQUESTS,
    about,
    poisson_times,
    require,
    require_load,
    rows_until,
)
from warmroute_simulator.traces.prompts import ROOT, PromptTree
from warmroute_simulator.traces.trace import Trace

_DOCUMENTS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Rag:
    """Defaults are an assistant over a few thousand pages, cut into pieces of a page or two."""

    closed_loop: ClassVar[bool] = False

    documents: int = field(default=5_000, metadata=about("documents in the stock"))
    document_tokens: Lengths = field(
        default=Lengths.parse("lognormal(800,0.5,100,4000)"), metadata=about("length of a document")
    )
    documents_per_prompt: Lengths = field(
        default=Lengths.parse(5), metadata=about("k, documents in a prompt")
    )
    zipf_exponent: float = field(default=0.8, metadata=about("popularity of documents; 0: all alike"))
    system_tokens: int = field(
        default=600, metadata=about("length of the system prompt, one for all; 0: none")
    )
    question_tokens: Lengths = field(
        default=Lengths.parse("lognormal(40,0.8,5,1000)"), metadata=about("length of a question")
    )
    output_tokens: Lengths = field(
        default=Lengths.parse("lognormal(200,0.7,10,2000)"), metadata=about("length of an answer")
    )
    rate_per_s: float = field(default=20.0, metadata=about("requests per second, a Poisson process"))
    requests: int | None = field(default=None, metadata=REQUESTS)
    duration_s: float | None = field(default=None, metadata=about("requests come during so many seconds"))

    def __post_init__(self) -> None:
        require(1 <= self.documents <= _DOCUMENTS_MAX, f"documents must be 1 to {_DOCUMENTS_MAX:,}")
        require(
            self.documents_per_prompt.most <= self.documents,
            f"documents_per_prompt exceeds the {self.documents} documents",
        )
        require(
            self.documents_per_prompt.most * self.document_tokens.most <= LONGEST,
            f"documents_per_prompt × document_tokens may exceed {LONGEST:,}",
        )
        require_exponent("zipf_exponent", self.zipf_exponent)
        require(0 <= self.system_tokens <= LONGEST, f"system_tokens must be 0 to {LONGEST:,}")
        require_load("rate_per_s", self.rate_per_s, self.requests, self.duration_s)

    def at_rate(self, rate_per_s: float, requests: int | None, duration_s: float | None) -> Self:
        return dataclasses.replace(self, rate_per_s=rate_per_s, requests=requests, duration_s=duration_s)

    def fill(self, trace: Trace, chance: Random, begin_s: float) -> None:
        lengths = array("i", (self.document_tokens.draw(chance) for _ in range(self.documents)))
        popularity = Popularity(self.documents, self.zipf_exponent)
        first, rankings = len(trace), Rankings(lengths)
        stop = rows_until(trace, self.requests, self.duration_s)
        for at_s in poisson_times(chance, self.rate_per_s, begin_s, self.duration_s):
            if len(trace) == stop:
                break
            wanted = self.documents_per_prompt.draw(chance)
            rankings.add(self._ranked(chance, popularity, wanted), self.question_tokens.draw(chance))
            trace.add(ROOT, self.output_tokens.draw(chance), arrival_s=at_s)
        system = trace.tree.add(ROOT, self.system_tokens) if self.system_tokens else ROOT
        leaves = rankings.leaves(trace.tree, system)
        trace.prompts[first:] = leaves
        trace.answers[first:] = leaves

    def _ranked(self, chance: Random, popularity: Popularity, wanted: int) -> list[int]:
        """Different documents, each drawn by its popularity among those not yet drawn."""
        ranked: list[int] = []
        while len(ranked) < wanted:
            document = popularity.draw(chance)
            if document not in ranked:
                ranked.append(document)
        return ranked


class Rankings:
    """State: the documents of all prompts in one column, where each prompt's begin, and its question."""

    def __init__(self, document_tokens: array[int]) -> None:
        self._document_tokens = document_tokens
        self._documents = array("i")
        self._begins = array("i", [0])
        self._question_tokens = array("i")

    def add(self, documents: Sequence[int], question_tokens: int) -> None:
        """Writes. One more prompt."""
        self._documents.extend(documents)
        self._begins.append(len(self._documents))
        self._question_tokens.append(question_tokens)

    def leaves(self, tree: PromptTree, root: int) -> array[int]:
        """Writes `tree`: the nodes of all prompts below `root`. The node at which each prompt ends."""
        begins, lengths = self._begins, self._document_tokens
        leaves = array("i", bytes(4 * len(self._question_tokens)))
        groups: list[tuple[int, int, Sequence[int]]] = [(root, 0, range(len(leaves)))]
        while groups:
            node, depth, prompts = groups.pop()
            for document, alike in self._by_document(prompts, depth).items():
                if document < 0:  # rankings that end here
                    for prompt in alike:
                        leaves[prompt] = tree.add(node, self._question_tokens[prompt])
                elif len(alike) > 1:
                    groups.append((tree.add(node, lengths[document]), depth + 1, alike))
                else:
                    prompt = alike[0]
                    rest = self._documents[begins[prompt] + depth : begins[prompt + 1]]
                    tokens = sum(lengths[later] for later in rest) + self._question_tokens[prompt]
                    leaves[prompt] = tree.add(node, tokens)
        return leaves

    def _by_document(self, prompts: Sequence[int], depth: int) -> dict[int, array[int]]:
        """Reads. Prompts by the document at `depth`; −1: they have no more."""
        documents, begins = self._documents, self._begins
        found: dict[int, array[int]] = {}
        for prompt in prompts:
            at = begins[prompt] + depth
            document = documents[at] if at < begins[prompt + 1] else -1
            alike = found.get(document)
            if alike is None:
                alike = found[document] = array("i")
            alike.append(prompt)
        return found
