"""A look of a few minutes takes the place of no published figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from routing_lib.places import PUBLISHED, results_file
from routing_lib.plan import MODES


@pytest.mark.parametrize("study", ["quality", "ablations", "tuning"])
def test_only_the_published_study_lies_in_docs(tmp_path: Path, study: str) -> None:
    files = {mode: results_file(tmp_path, study, mode) for mode in MODES}
    assert files.pop(PUBLISHED) == tmp_path / f"docs/{study}.json"
    assert files.keys() == {"quick", "full"}
    for mode, file in files.items():
        assert file == tmp_path / "build" / mode / f"{study}.json"
        assert file.parent.is_dir()
