"""The file of single requests."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from warmroute_simulator.report.requests_csv import COLUMNS, write_requests
from warmroute_simulator.simulation.records import Records


def rows_of(records: Records) -> list[dict[str, str]]:
    file = io.StringIO(newline="")
    write_requests(records, file)
    file.seek(0)
    return list(csv.DictReader(file))


def test_a_row_by_hand(records: Records) -> None:
    assert rows_of(records)[1] == {
        "row": "1",
        "session": "0",
        "arrived_s": "1.000000",
        "worker": "http://a",
        "reason": "warm",
        "prompt_tokens": "2000",
        "output_tokens": "1",
        "predicted": "900",
        "hit": "800",
        "evicted": "100",
        "elsewhere": "0",
        "ttft_s": "0.500000",
        "tpot_s": "",
        "e2e_s": "0.500000",
        "outcome": "ok",
        "attempts": "1",
    }


def test_what_never_came_is_empty(records: Records) -> None:
    refused = rows_of(records)[4]
    assert refused["outcome"] == "refused"
    empty = ("session", "worker", "reason", "predicted", "hit", "evicted", "elsewhere", "ttft_s", "e2e_s")
    assert [refused[column] for column in empty] == [""] * len(empty)


def test_every_request_has_a_row_with_every_column(make_run: Callable[..., Records]) -> None:
    rows = rows_of(make_run(3, requests=50))
    assert [row["row"] for row in rows] == [str(number) for number in range(50)]
    assert all(tuple(row) == COLUMNS and None not in row.values() for row in rows)


def test_names_with_commas_and_quotes_survive(records: Records) -> None:
    records.workers[0] = 'http://"a",b'
    assert rows_of(records)[0]["worker"] == 'http://"a",b'
