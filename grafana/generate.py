"""Writes grafana/dashboards/*.json, or with --check says which of them are stale (exit code 1)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from boards import BOARDS

DASHBOARDS: Final = Path(__file__).parent / "dashboards"


def documents() -> dict[str, str]:
    """File names and their texts."""
    return {
        f"{board.name}.json": json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for board in BOARDS
    }


def stale() -> list[str]:
    """Reads. Files that differ from what would be written, those that should not be there included."""
    wanted = documents()
    found = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main() -> int:
    """Writes or checks all dashboards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a file is stale")
    if parser.parse_args().check:
        if names := stale():
            print(f"stale: {', '.join(names)}; run `make dashboards`", file=sys.stderr)
            return 1
        return 0
    for path in DASHBOARDS.glob("*.json"):
        path.unlink()
    for name, text in documents().items():
        (DASHBOARDS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
