"""Learned prices on disk: what the last router found out is where the next one begins.

    {"schema": 1, "prices": {"llama-3.1-8b-h100": {"linear_s": 2.1e-05, "quadratic_s": 8.2e-10}}}

Rules kept here: a file that is there and cannot be read stops the start, since to overwrite it would lose
what an operator pointed at by mistake; the file is replaced as a whole, so that a crash leaves the old one; a
disk that fails costs a warning, never a request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import msgspec

from warmroute_policies.errors import ConfigError
from warmroute_policies.latency import PrefillPrice

log = logging.getLogger("warmroute")

SCHEMA = 1


class _Learned(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    schema: int
    prices: dict[str, PrefillPrice]


def read_prices(path: Path) -> dict[str, PrefillPrice]:
    """Reads. By worker class; none when there is no such file. Raises ConfigError with the reason."""
    try:
        learned = msgspec.json.decode(path.read_bytes(), type=_Learned)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"the learned prices {str(path)!r} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{str(path)!r} is no file of learned prices: {error}") from None
    if learned.schema != SCHEMA:
        raise ConfigError(f"{str(path)!r} has schema {learned.schema}; this release reads {SCHEMA}")
    for name, price in learned.prices.items():
        if not all(isfinite(part) and part >= 0 for part in (price.linear_s, price.quadratic_s)):
            raise ConfigError(f"{str(path)!r}: the price of {name!r} must be of numbers from 0 on")
    return learned.prices


def write_prices(path: Path, prices: Mapping[str, PrefillPrice]) -> None:
    """Writes. Replaces the file at once, or warns."""
    beside = path.with_name(f"{path.name}.new")
    content = msgspec.json.format(msgspec.json.encode(_Learned(SCHEMA, dict(prices)))) + b"\n"
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        log.warning("learned prices were not written: %s", error, extra={"path": str(path)})
