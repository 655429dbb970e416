"""Command lines of sglang-router, vllm-router and smg: what the router makes of them.

catalogue      what a peer's command line looks like
sglang_router, vllm_router, smg
               its flags, as its argparse lists them
shape          the kinds of answer, and conversions
answers        every flag's answer
together       flags that mean something only beside others, policies with other names
translate      used flags become settings, notes and problems
environment    variables of theirs that an operator may expect to work
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from warmroute.config.peers.answers import ANSWERS
from warmroute.config.peers.catalogue import Peer
from warmroute.config.peers.sglang_router import SGLANG_ROUTER
from warmroute.config.peers.shape import Kind
from warmroute.config.peers.smg import SMG
from warmroute.config.peers.together import NO_POLICY, POLICIES
from warmroute.config.peers.translate import Translated, Uses
from warmroute.config.peers.translate import translate as _translate
from warmroute.config.peers.vllm_router import VLLM_ROUTER
from warmroute.config.sources import Given

PEERS: Final[tuple[Peer, ...]] = (SGLANG_ROUTER, VLLM_ROUTER, SMG)

OWNERS: Final = {
    flag: next(peer.name for peer in PEERS if flag in peer.flags) for peer in PEERS for flag in peer.flags
}
"""Flag to the first peer that has it."""

# Beside their defaults, words that ask for nothing.
_NOTHING: Final = {"--history-backend": frozenset(("none",))}

DEFAULTS: Final = {
    flag: _NOTHING.get(flag, frozenset())
    | {
        spelling.default
        for spelling in (peer.flags[flag] for peer in PEERS if flag in peer.flags)
        if spelling.default or spelling.values == "*"
    }
    for flag in OWNERS
}
"""Flag to what asks for no more than the peers do without it; an empty text is an empty list."""

ENGINES: Final = frozenset(("sglang", "vllm", "openai", "anthropic", "tokenspeed"))
"""What `--backend` may name in the peers; here it names a worker."""

LAUNCH: Final = {"host": "0.0.0.0", "metrics_host": "0.0.0.0", "metrics_port": "29000"}  # noqa: S104
"""Where `sglang-router launch` listens unless it is told otherwise, and so does `router launch`."""


def values_of(flag: str) -> str:
    """How many words a peer's flag takes: `0`, `1`, `*` or `+`."""
    return next(peer.flags[flag].values for peer in PEERS if flag in peer.flags)


def translate(uses: Uses, own: dict[str, Given]) -> Translated:
    """The settings that flags of the router and of the peers give together. Raises UsageError."""
    return _translate(uses, own, DEFAULTS, OWNERS)


def whole_flag(word: str, own: Collection[str]) -> str:
    """The flag of a peer that a word begins, where it is the only one in that peer; else the word itself. All
    three take such abbreviations (`--ca-cert-path` is in their documentation); the router's flags are not
    abbreviated, so what begins one of those is left alone."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--") or flag in own or flag in OWNERS:
        return word
    if len(flag) <= len("--") or any(known.startswith(flag) for known in own):
        return word
    found = set()
    for peer in PEERS:
        begun = [known for known in peer.flags if known.startswith(flag)]
        if len(begun) == 1:
            found.add(begun[0])
    return found.pop() + equals + value if len(found) == 1 else word


__all__ = [
    "ANSWERS",
    "DEFAULTS",
    "ENGINES",
    "LAUNCH",
    "NO_POLICY",
    "OWNERS",
    "PEERS",
    "POLICIES",
    "Kind",
    "Peer",
    "translate",
    "values_of",
    "whole_flag",
]
