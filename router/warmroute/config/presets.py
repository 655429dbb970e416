"""What workers cost: a built-in latency preset, or a file that `simulator fit` wrote.

Of a file the router reads `latency` and nothing else. A preset is known by what the operator wrote, a name
or a path, and that is the worker class under which the core finds its price.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec

from warmroute_policies.latency import PRESETS, LatencyCoefficients, PrefillPrice


class _Fitted(msgspec.Struct):
    """The part of such a file that the router needs."""

    latency: LatencyCoefficients


def preset_name(name: str) -> str:
    """The name of a built-in preset. Raises ValueError with the nearest name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no latency preset is called {name!r}{hint} (known: {', '.join(sorted(PRESETS))})")
    return name


def preset_or_file(name: str) -> str:
    """A built-in preset, or the path of a fitted one that can be read. Raises ValueError with the reason."""
    price_of(name)
    return name


def price_of(name: str) -> PrefillPrice:
    """What a preset's prefill costs. Raises ValueError as `preset_or_file` does."""
    if not name.endswith(".json"):
        return PRESETS[preset_name(name)].price
    try:
        fitted = msgspec.json.decode(Path(name).read_bytes(), type=_Fitted)
    except OSError as error:
        raise ValueError(f"the preset {name!r} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{name!r} is no preset of `simulator fit`: {error}") from None
    return fitted.latency.price
