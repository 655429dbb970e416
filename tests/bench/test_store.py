"""Runs in a file: what was done is there, once, and of these sources only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from judged import BOUNDS
from routing_lib.store import Key, Run, Store, digest_of_sources

KEY = Key("chat:requests=9", "4", 250_000, None, 2.0, 0.1, 0.8, "random", 0)


def run(seed: int = 0, digest: str = "now", ttft_s: float = 0.5) -> Run:
    key = msgspec.structs.replace(KEY, seed=seed)
    means = (ttft_s, 0.4, 0.9, 1.5, 0.02, 0.05, 3.0, 0.5, 0.9, 4.0, 5.0, 1.2, 0.1)
    return Run(key, digest, 9, {"ok": 9}, *means)


def test_what_was_added_is_there_when_the_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "runs.jsonl"
    store = Store(file, "now")
    for seed in range(3):
        store.add(run(seed))
    again = Store(file, "now")
    assert len(again) == 3
    assert again.get(run(2).key) == run(2)
    assert again.get(msgspec.structs.replace(KEY, seed=3)) is None


@pytest.mark.parametrize("field", Key.__struct_fields__)
def test_whatever_decides_what_comes_of_a_run_tells_it_apart(tmp_path: Path, field: str) -> None:
    store = Store(tmp_path / "runs.jsonl", "now")
    store.add(run())
    value = getattr(KEY, field)
    other = {field: 9.5 if value is None else value * 2 if value else 1}
    assert store.get(msgspec.structs.replace(KEY, **other)) is None
    assert store.get(KEY) is not None


def test_runs_of_other_sources_stay_in_the_file_and_are_not_used(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    Store(file, "before").add(run(digest="before"))
    store = Store(file, "now")
    assert store.get(KEY) is None
    store.add(run(digest="now", ttft_s=0.7))
    before, now = Store(file, "before").get(KEY), Store(file, "now").get(KEY)
    assert before is not None
    assert now is not None
    assert (before.ttft_mean_s, now.ttft_mean_s) == (0.5, 0.7)


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_line_that_was_cut_short_is_passed_over_and_spoils_none(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "runs.jsonl"
    Store(file, "now").add(run(0))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: int(len(whole) * kept)])
    store = Store(file, "now")
    store.add(run(1))
    again = Store(file, "now")
    assert [again.get(run(seed).key) for seed in (0, 1)] == [run(0), run(1)]


def test_bounds_are_kept_when_the_same_run_comes_without(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    store = Store(file, "now")
    store.add(run())
    assert store.get(KEY, with_bounds=True) is None
    for bounds in (BOUNDS, None):
        store.add(msgspec.structs.replace(run(), bounds=bounds))
    for one in (store, Store(file, "now")):
        found = one.get(KEY, with_bounds=True)
        assert found is not None
        assert found.bounds == BOUNDS


def test_requests_without_a_whole_answer_are_counted_whatever_became_of_them() -> None:
    found = msgspec.structs.replace(run(), requests=10, outcomes={"ok": 7, "refused": 1})
    assert found.unanswered == pytest.approx(0.3)


def test_the_digest_is_that_of_these_sources() -> None:
    assert digest_of_sources() == digest_of_sources()
    assert len(digest_of_sources()) == 16
