"""What a live router did in front of live engines, done again: by a fresh core, and by the simulator.

`bench/live_parity.py` measures the same for longer, and with times; here nothing is timed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from live_parity import Parity, compare, record

SECONDS = 8.0


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Parity:
    folder: Path = tmp_path_factory.mktemp("parity")
    journal = folder / "journal.jsonl"
    errors = uvloop.run(record(journal, "cache_aware", SECONDS, 1, folder))
    return compare(journal, "cache_aware", errors, 1)


def test_a_live_journal_replays_to_exactly_the_same_decisions(lived: Parity) -> None:
    assert lived.errors == 0
    assert lived.decisions > 100
    assert lived.decisions_that_differ == 0


def test_simulating_a_live_journal_predicts_the_hit_rate_that_the_engines_reported(lived: Parity) -> None:
    """Two points and not one: on a busy machine requests of a short run meet in another order."""
    assert lived.requests > 100
    assert abs(lived.hit_points) < 2.0
