"""What structs of compiled modules derive from.

The compiler passes no class keywords on: `class Choice(msgspec.Struct, frozen=True)` is frozen where it is
interpreted and not where it is compiled. msgspec hands the keywords down from base classes, so they are said
here, in a module that is never compiled. The classes say them as well, for readers and type checkers; a test
compares what is said with what is.
"""

from __future__ import annotations

import msgspec


class Frozen(msgspec.Struct, frozen=True, gc=False):
    """Never changes, and is part of no circle of references."""


class Record(msgspec.Struct, gc=False):
    """State of a few fields, and part of no circle of references."""
