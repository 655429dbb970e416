"""What runs is what is written: the compiled modules are there, of these sources, and used.

Where modules run interpreted on purpose (no C compiler, `make test-interpreted`), that is what is checked.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from warmroute.compiled import is_compiled

ROOT = Path(__file__).parents[2]
COMPILED = [
    Path(name)
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["warmroute"]["compiled"]
]


def origin_of(source: Path) -> Path:
    """The file that Python runs for a source."""
    spec = find_spec(".".join(source.with_suffix("").parts[1:]))
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@pytest.mark.parametrize("source", COMPILED, ids=str)
def test_a_module_that_is_to_be_compiled_runs_as_the_others_do(source: Path) -> None:
    assert origin_of(source).suffix == (".so" if is_compiled() else ".py")


@pytest.mark.skipif(not is_compiled(), reason="modules run interpreted")
@pytest.mark.parametrize("source", COMPILED, ids=str)
def test_a_compiled_module_is_of_the_present_source(source: Path) -> None:
    extension = (ROOT / source).with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
    assert extension.stat().st_mtime >= (ROOT / source).stat().st_mtime, (
        f"{source} was edited: run `make setup`"
    )


def structs_of(source: Path) -> dict[type[msgspec.Struct], dict[str, bool]]:
    """The structs that a module defines, and the keywords of each."""
    module = import_module(".".join(source.with_suffix("").parts[1:]))
    found = {}
    for node in ast.parse((ROOT / source).read_text()).body:
        if isinstance(node, ast.ClassDef) and issubclass(getattr(module, node.name), msgspec.Struct):
            words = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
            found[getattr(module, node.name)] = words
    return found


@pytest.mark.parametrize("source", COMPILED, ids=str)
def test_a_struct_is_what_its_keywords_say_compiled_too(source: Path) -> None:
    for struct, said in structs_of(source).items():
        found = struct.__struct_config__
        assert {word: getattr(found, word) for word in said} == said, struct


def test_there_are_structs_to_compare() -> None:
    said = [words for source in COMPILED for words in structs_of(source).values()]
    assert {"frozen": True, "gc": False} in said
    assert {"gc": False} in said


def test_the_compiled_code_lies_where_it_is_imported_from() -> None:
    shared = sys.modules.get("warmroute__mypyc")
    assert (shared is not None) is is_compiled()
