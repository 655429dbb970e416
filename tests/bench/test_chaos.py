"""A short run of chaos, and that its verdict sees what it should see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import chaos
from chaos_lib.answers import events, plain
from chaos_lib.client import Asked
from chaos_lib.injector import Fault
from chaos_lib.verdict import judge

SECONDS = 20


def test_a_fleet_that_breaks_for_twenty_seconds_costs_nothing_but_what_died(tmp_path: Path) -> None:
    verdict, faults = chaos.play(tmp_path, SECONDS, rate=60, seed=3)
    print("seed 3", json.dumps(verdict.as_json()))
    assert not faults
    assert not any(verdict.faulty.values()), verdict.examples
    assert verdict.requests > SECONDS * 30
    assert verdict.right > verdict.requests * 0.9
    assert {"kill", "hang", "slow"} <= verdict.faults.keys()


NONCE = b"nonce-0123456789abcdef"
RIGHT = Asked(NONCE, False, False, 10.0, 11.0, 200, "http://a", plain(NONCE), whole=True)
STREAM = replace(RIGHT, stream=True, body=b"".join(events(NONCE)))
KILL = Fault("kill", "http://a", 10.5, 12.0)
HANG = Fault("hang", "http://a", 9.0, 9.5)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (replace(RIGHT, body=plain(NONCE)[:-1]), "wrong bytes"),
        (replace(RIGHT, body=plain(b"nonce-0000000000000000")), "wrong bytes"),
        (replace(STREAM, body=STREAM.body + b"data: 1\n\n"), "wrong bytes"),
        (replace(STREAM, body=b"data: other", whole=False), "wrong bytes"),
        (replace(STREAM, leaves=True, body=b"data: other", whole=False), "wrong bytes"),
        (replace(RIGHT, status=502, body=b"{}"), "lost though others were able"),
        (replace(RIGHT, status=503, body=b"{}"), "lost though others were able"),
        (replace(RIGHT, status=0, body=b"", whole=False), "without any answer"),
        (
            replace(STREAM, body=STREAM.body[:20], whole=False, worker="http://b"),
            "failures that no fault explains",
        ),
        (replace(RIGHT, status=504, sent_at=20.0, ended_at=24.0), "failures that no fault explains"),
    ],
)
def test_a_failure_of_the_router_is_seen(asked: Asked, what: str) -> None:
    verdict = judge([asked], [KILL, HANG], leaked=0)
    assert {name: count for name, count in verdict.faulty.items() if count} == {what: 1}


@pytest.mark.parametrize(
    "asked",
    [
        RIGHT,
        STREAM,
        replace(STREAM, body=STREAM.body[:20], whole=False),
        replace(RIGHT, status=504, body=b"{}"),
        replace(RIGHT, leaves=True, status=0, body=b"", whole=False),
    ],
)
def test_what_went_well_or_died_with_its_engine_is_no_failure_of_the_router(asked: Asked) -> None:
    assert not any(judge([asked], [KILL, HANG], leaked=0).faulty.values())


def test_what_is_left_in_the_books_is_seen() -> None:
    assert judge([], [], leaked=3).faulty["leaked in flight"] == 3
