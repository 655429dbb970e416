"""Who asks, how urgent they say it is, and how long they wait: read from a request's head, once per kind.

A tenant is what `tenant_header` says, where that is set; else the API key, known by a fingerprint, so that no
secret is in a log or a metric; else nobody in particular. Where the router itself checks no keys, a client
may present any, and so be many tenants.

Rules kept. What a client says of its priority counts only up to what it is allowed (`priority_max`). A class
that does not exist is no class: the request is like one that names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import inf
from typing import Final, NamedTuple

from warmroute.config import Settings
from warmroute.config.admission import Tenant, ordered_classes, parse_tenant
from warmroute.wire.heads import Head

ANYBODY: Final = "anonymous"
"""The tenant of all who do not say who they are."""

# Longer names are known by a fingerprint: they are remembered.
_NAME_CHARS_MAX: Final = 128

_FINGERPRINT_DIGITS: Final = 12


class Caller(NamedTuple):
    """What a head says of who sent it. Ranks count from 0, the highest class."""

    tenant: str
    named: bool
    """Whether the operator knows this tenant by name."""
    weight: float
    rank: int | None
    """None: the head names no class, so the body may."""
    rank_max: int
    """No higher class than this is granted."""
    patience_s: float
    """After so many seconds the client gives up."""


class Callers:
    """State: none but what the settings say."""

    def __init__(self, settings: Settings) -> None:
        self.classes: Final = [one.name for one in ordered_classes(settings.priority_class)]
        """From the highest to the lowest."""
        self.weights: Final = [one.weight for one in ordered_classes(settings.priority_class)]
        self.tenants: Final = {one.name: one for one in map(parse_tenant, settings.tenant)}
        self.default: Final = self.classes.index(settings.priority_default)
        self._rank_max = self.classes.index(settings.priority_max)
        self._tenant_header = _wire_names([settings.tenant_header] if settings.tenant_header else [])
        self._priority_headers = _wire_names(settings.priority_header)
        self._deadline_headers = _wire_names(settings.deadline_header)
        self._field = settings.priority_field

    def of(self, head: Head) -> Caller:
        """Reads. Whose head this is."""
        name = _first(head, self._tenant_header)
        tenant = _key_name(head) if name is None else _bounded(name)
        known = self.tenants.get(tenant)
        facts = known or Tenant(tenant)
        rank_max = self._rank_max
        if facts.priority_max is not None:
            rank_max = self.classes.index(facts.priority_max)
        named = _first(head, self._priority_headers)
        rank = self._named_rank(named) if named is not None else None
        return Caller(tenant, known is not None, facts.weight, rank, rank_max, self._patience_s(head))

    def rank(self, caller: Caller, priority: int) -> int:
        """Reads. The class of a request of this caller, whose body has this `priority`."""
        rank = caller.rank
        if rank is None:
            if priority == 0 or self._field == "ignored":
                rank = self.default
            elif (priority < 0) is (self._field == "lower_first"):
                rank = 0
            else:
                rank = len(self.classes) - 1
        return max(rank, caller.rank_max)

    def _named_rank(self, name: str) -> int:
        name = name.strip().lower()
        return next((rank for rank, known in enumerate(self.classes) if known.lower() == name), self.default)

    def _patience_s(self, head: Head) -> float:
        text = _first(head, self._deadline_headers)
        try:
            seconds = float(text or "")
        except ValueError:
            return inf
        return seconds if seconds > 0 else inf


def fingerprint(secret: str) -> str:
    """A name for a key that does not tell the key."""
    return sha256(secret.encode("latin-1", "replace")).hexdigest()[:_FINGERPRINT_DIGITS]


def _key_name(head: Head) -> str:
    bearer = head.get(b"authorization")
    if bearer is not None and bearer[:7].lower() == b"bearer " and bearer[7:].strip():
        return "key-" + fingerprint(bearer[7:].strip().decode("latin-1"))
    key = head.get(b"x-api-key")
    return "key-" + fingerprint(key.decode("latin-1")) if key else ANYBODY


def _bounded(name: str) -> str:
    return name if len(name) <= _NAME_CHARS_MAX else "long-" + fingerprint(name)


def _wire_names(names: Sequence[str]) -> list[bytes]:
    return [name.encode() for name in names]


def _first(head: Head, names: Sequence[bytes]) -> str | None:
    """The value of the first of these fields that is there and not empty."""
    for name in names:
        value = head.get(name)
        if value:
            return value.decode("latin-1")
    return None
