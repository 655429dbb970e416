"""Whether the modules on a request's way run compiled, as they should, or from their sources.

Both do the same; from the sources a request costs 1.4 to 1.8 times the CPU. Which modules, and how: see
hatch_build.py of the project.
"""

from __future__ import annotations

from warmroute import exchange


def is_compiled() -> bool:
    """Reads."""
    return not exchange.__file__.endswith(".py")
