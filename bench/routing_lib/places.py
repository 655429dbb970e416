"""Where the results of a study lie when the command does not say.

Only the published study of a kind goes into docs/: a look of a few minutes lies in build/ and takes no
published figure's place.
"""

from __future__ import annotations

from pathlib import Path

PUBLISHED = "published"


def results_file(root: Path, study: str, mode: str) -> Path:
    """Writes the folder when it is missing. The page and its plots lie beside this file."""
    file = root / (f"docs/{study}.json" if mode == PUBLISHED else f"build/{mode}/{study}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
