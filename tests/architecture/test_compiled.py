"""What runs is what is written: the compiled modules are there, of these sources, and used.

Where modules run interpreted on purpose (no C compiler, `make test-interpreted`), that is what is checked.
"""

from __future__ import annotations

import sys
import sysconfig
import tomllib
from importlib.util import find_spec
from pathlib import Path

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


def test_the_compiled_code_lies_where_it_is_imported_from() -> None:
    shared = sys.modules.get("warmroute__mypyc")
    assert (shared is not None) is is_compiled()
