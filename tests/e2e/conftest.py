"""Real vLLM engines for the tests of this folder. `make e2e` installs them and names their home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.engines.vllm import Vllm, vllm_engines


@pytest.fixture(scope="session")
def e2e_home() -> Path:
    """The folder that tests/e2e/engines/setup.sh made."""
    home = os.environ.get("WARMROUTE_E2E")
    if not home:
        pytest.skip("needs vLLM: run `make e2e`, which sets it up")
    return Path(home)


@pytest.fixture(scope="session")
def engines(e2e_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Vllm]]:
    """Two engines, shared by the tests. One that kills an engine takes `mortal_engines`."""
    with vllm_engines(e2e_home, tmp_path_factory.mktemp("engines"), 2) as running:
        yield running


@pytest.fixture
def mortal_engines(e2e_home: Path, tmp_path: Path) -> Iterator[list[Vllm]]:
    """Two engines of one test's own, to be killed."""
    with vllm_engines(e2e_home, tmp_path, 2) as running:
        yield running
