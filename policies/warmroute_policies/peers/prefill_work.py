"""The prefill that comes before a request's first token, by the fleet's books and the believed hits.

    W_i = Q_i + max(0, n − h_i)

    Q_i   uncached prompt tokens of the requests on i whose first token was not seen yet
    h_i   tokens of this prompt, n in all, that i holds

Three published rules rank by it, alone or times the requests in flight. Where they hear KV events of the
engines, this router's own index, corrected by what engines report, stands for them; Q_i is the fleet's own
column, exact at the dispatch.
"""

from __future__ import annotations

from warmroute_policies.policy import View


def missing_tokens(view: View, slot: int) -> int:
    """Reads. Tokens of the prompt that the slot would have to compute."""
    return max(0, view.prompt_tokens - view.hits.tokens(slot))


def prefill_tokens(view: View, slot: int) -> int:
    """Reads. W: all that the slot has to compute before the request's first token."""
    return view.fleet.queued_tokens[slot] + missing_tokens(view, slot)
