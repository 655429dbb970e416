"""docs/peers-behaviours.md names tests that exist, and has an answer in every row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "peers-behaviours.md"


def rows() -> list[tuple[str, str]]:
    """What is expected, and what the page says to it."""
    cells = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    return [(row[0], row[1]) for row in cells if row[0] != "expected" and set(row[0]) != {"-"}]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_row_names_a_test_or_a_reason() -> None:
    found = rows()
    assert len(found) > 60
    for expected, shown in found:
        assert re.match(r"`\S+\.py|not ", shown), expected


def test_every_test_that_is_named_exists() -> None:
    named = [name for _, shown in rows() for name in re.findall(r"`([\w/]+\.py(?:::\w+)?)`", shown)]
    assert len(named) > 50
    for name in named:
        file, _, test = name.partition("::")
        path = ROOT / "tests" / file
        assert path.is_file(), name
        assert not test or test in functions_of(path), name


def test_every_test_of_the_behaviours_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    for test in functions_of(Path(__file__).with_name("test_behaviours.py")):
        assert f"test_behaviours.py::{test}`" in text, test
