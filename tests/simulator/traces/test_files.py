"""Files are read packed or not, and what is wrong with one is said with file and line."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path

import pytest
import zstandard

from warmroute_simulator.traces.files import TraceError, numbered_lines, writing

LINES = b"one\n\n  \ntwo\nthree"
NUMBERED = [(1, b"one\n"), (4, b"two\n"), (5, b"three")]


@pytest.mark.parametrize("name", ["plain.jsonl", "packed.gz", "packed.zst", "misnamed.jsonl"])
def test_packed_files_are_known_by_their_first_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    packed = {".gz": gzip.compress(LINES), ".zst": zstandard.compress(LINES)}
    default = gzip.compress(LINES) if "misnamed" in name else LINES
    path.write_bytes(packed.get(path.suffix, default))
    assert list(numbered_lines(path)) == NUMBERED


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_what_was_written_is_read_and_equal_contents_are_equal_files(tmp_path: Path, name: str) -> None:
    twice = []
    for folder in ("first", "second"):
        path = tmp_path / folder / name
        path.parent.mkdir()
        with writing(path) as file:
            file.write(LINES)
        assert list(numbered_lines(path)) == NUMBERED
        twice.append(path.read_bytes())
    assert twice[0] == twice[1]


def test_packed_files_that_were_put_together_are_read_through(tmp_path: Path) -> None:
    for suffix, pack in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        path = tmp_path / f"trace{suffix}"
        path.write_bytes(pack(b"one\ntw") + pack(b"o\nthree"))
        assert [line for _, line in numbered_lines(path)] == [b"one\n", b"two\n", b"three"]


def test_a_mark_of_utf_8_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "marked.csv"
    path.write_bytes(b"\xef\xbb\xbfone\n")
    assert list(numbered_lines(path)) == [(1, b"one\n")]


def test_a_git_lfs_pointer_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(TraceError, match=r"trace.jsonl: .*Git LFS pointer.*git lfs pull"):
        list(numbered_lines(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_an_error_of_the_trace(tmp_path: Path, suffix: str, damage: str) -> None:
    text = b"".join(b'{"line": %d}\n' % number for number in range(20_000))
    zstd = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(gzip.compress(text) if suffix == ".gz" else zstd.compress(text))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        for place in range(len(packed) // 2, len(packed) // 2 + 50):
            packed[place] ^= 0xFF
    path = tmp_path / f"trace{suffix}"
    path.write_bytes(packed)
    with pytest.raises(TraceError, match=f"trace{suffix}.*(cut or damaged|that can be read)"):
        list(numbered_lines(path))


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(TraceError, match=path.name):
            list(numbered_lines(path))
    with pytest.raises(TraceError, match="can be written"), writing(tmp_path / "no" / "folder"):
        pass


def test_without_zstandard_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trace.zst"
    path.write_bytes(zstandard.compress(LINES))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(TraceError, match=r"pip install 'warmroute\[simulator\]'"):
        list(numbered_lines(path))


def test_an_error_says_file_line_field_expected_and_found() -> None:
    error = TraceError("t.gz", 17, "input_length", "a whole number of at least 1", "-3")
    words = "t.gz line 17: field `input_length`: expected a whole number of at least 1, not -3"
    assert str(error) == words
    assert str(pickle.loads(pickle.dumps(error))) == words
