"""What fuzzing found once is played again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzzing.configuration import ConfigurationTarget
from fuzzing.journal import JournalTarget

CORPUS = Path(__file__).parents[2] / "fuzz/corpus"


def cases(target: str) -> list[Path]:
    found = sorted((CORPUS / target).iterdir())
    assert found
    return found


@pytest.mark.parametrize("case", cases("journal"), ids=lambda path: path.name)
def test_a_journal_that_broke_a_reader_is_refused_in_words(case: Path, tmp_path: Path) -> None:
    JournalTarget(tmp_path, b"").play(case.read_bytes())


@pytest.mark.parametrize("case", cases("configuration"), ids=lambda path: path.name)
def test_settings_that_broke_the_command_line_are_refused_in_words(case: Path, tmp_path: Path) -> None:
    given, _, text = case.read_bytes().partition(b"\n")
    said = json.loads(given)
    words: list[str] = said["words"]
    if "--config" in words:
        path = tmp_path / words[-1]
        path.write_bytes(text)
        words[-1] = str(path)
    ConfigurationTarget(tmp_path).play(words, said["environment"], given)
