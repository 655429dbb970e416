"""Rows in which all pairs of levels occur, for any grid; and those of the published study."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from routing_lib.covering import Row, combined, covering
from routing_lib.factors import FLEETS, KV_TOKENS, SHARES, TOO_SHORT, traces
from routing_lib.plan import plan_of

GRIDS = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(
    lambda sizes: list(product(*(range(size) for size in sizes)))
)


def occurring(rows: list[Row], strength: int) -> set[tuple[tuple[int, object], ...]]:
    return {together for row in rows for together in combined(row, strength)}


@settings(max_examples=60)
@given(GRIDS, st.integers(1, 2), st.integers(0, 99))
def test_all_levels_that_occur_together_in_the_grid_do_so_in_its_rows(
    grid: list[Row], strength: int, seed: int
) -> None:
    kept = grid[: max(1, len(grid) * 3 // 4)]  # a grid with holes
    rows = covering(kept, strength, lambda row: 1.0, seed)
    assert occurring(rows, strength) == occurring(kept, strength)
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(kept)


@settings(max_examples=40)
@given(GRIDS, st.integers(0, 99))
def test_every_row_has_a_pair_that_no_row_before_it_has(grid: list[Row], seed: int) -> None:
    rows = covering(grid, 2, lambda row: 1.0, seed)
    for count in range(len(rows)):
        assert occurring(rows[: count + 1], 2) > occurring(rows[:count], 2)


def test_the_same_seed_picks_the_same_rows_and_another_one_others() -> None:
    grid = list(product(range(5), range(4), range(3)))
    assert covering(grid, 2, lambda row: 1.0, 3) == covering(grid, 2, lambda row: 1.0, 3)
    assert covering(grid, 2, lambda row: 1.0, 3) != covering(grid, 2, lambda row: 1.0, 4)


def test_of_rows_that_cover_as_much_the_cheapest_is_picked() -> None:
    grid = list(product(range(4), range(4), range(4)))

    def cost(row: Row) -> float:
        return float(row != (2, 1, 3))

    assert covering(grid, 2, cost)[0] == (2, 1, 3)


def test_in_the_published_cells_every_two_levels_of_different_factors_meet() -> None:
    known = traces(Path())
    cells = plan_of("published", known).cells
    rows: list[Row] = [
        (cell.place.trace, cell.place.fleet, cell.place.kv_tokens, cell.share) for cell in cells
    ]
    everything: list[Row] = list(product(known, FLEETS, KV_TOKENS, SHARES))
    assert occurring(rows, 2) == occurring(everything, 2)
    assert len(cells) <= 1.2 * len(known) * len(SHARES)
    assert not TOO_SHORT & {cell.place for cell in cells}


def test_in_the_quick_cells_every_level_occurs() -> None:
    known = traces(Path())
    cells = plan_of("quick", known).cells
    rows: list[Row] = [
        (cell.place.trace, cell.place.fleet, cell.place.kv_tokens, cell.share) for cell in cells
    ]
    assert occurring(rows, 1) == occurring(list(product(known, FLEETS, KV_TOKENS, SHARES)), 1)
    assert len(cells) <= 8
