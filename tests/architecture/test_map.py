"""A package's docstring is its map: whatever a newcomer finds in the folder is on it."""

from __future__ import annotations

import re
from pathlib import Path

import warmroute

FOLDER = Path(warmroute.__file__).parent


def test_the_router_s_map_names_every_module_and_nothing_that_is_not_there() -> None:
    text = warmroute.__doc__ or ""
    listed = re.findall(r"^    ([a-z_, /]+?)  ", text, re.MULTILINE)
    named = {word.strip("/") for names in listed for word in re.split(r", ?", names)}
    there = {
        path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    beside = set(re.findall(r"`(\w+)/?`", text))
    assert named | beside >= there - {"__init__", "__main__"}
    assert named <= there
