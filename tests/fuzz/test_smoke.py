"""A few seconds of every fuzz target, and that a target sees what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzzing import admin, mutation
from fuzzing.admin import admin_target
from fuzzing.answers import answers_target
from fuzzing.configuration import configuration_target
from fuzzing.front import BATCH, front_target, judge
from fuzzing.grammar import Made
from fuzzing.journal import journal_target
from fuzzing.target import Finding, Opens, run

SECONDS = 4.0
SEED = 5


@pytest.mark.parametrize(
    ("opens", "least"),
    [(front_target, BATCH), (answers_target, 41), (configuration_target, 20), (journal_target, 20)],
    ids=["front", "answers", "configuration", "journal"],
)
def test_seconds_of_fuzzing_find_nothing(opens: Opens, least: int, tmp_path: Path) -> None:
    with opens(tmp_path) as target:
        outcome = run(target, SEED, SECONDS)
    assert not outcome.findings, f"seed {SEED}: {outcome.findings}"
    assert outcome.inputs >= least


@pytest.mark.skipif(not admin.is_here(), reason="schemathesis is not installed: `make fuzz` does it")
def test_a_round_of_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with admin_target(tmp_path) as target:
        outcome = run(target, SEED, 0.1)
    assert not outcome.findings, f"seed {SEED}: {outcome.findings}"


OWN = Made(b"", b"nonce-00000000000000aa", served=True)
OTHER = b"nonce-00000000000000bb"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"


def answer(body: bytes) -> bytes:
    return HEAD % (len(body), body)


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (answer(OWN.nonce) + b"x", "not HTTP"),
        (answer(OWN.nonce)[:-1], "not whole"),
        (answer(OWN.nonce) + answer(OTHER), "somebody else"),
        (answer(b"") + answer(b"ok"), "not its own answer"),
        (answer(OWN.nonce), "2 requests, 1 answers"),
        (answer(OWN.nonce) * 3, "2 requests, 3 answers"),
        (answer(OWN.nonce).replace(b"200", b"500") + answer(b"ok"), "inside the router"),
    ],
)
def test_what_is_wrong_with_an_answer_is_found(seen: bytes, what: str) -> None:
    judge([OWN], OWN.nonce, answer(OWN.nonce) + answer(b"ok"), {OWN.nonce, OTHER}, valid=True)
    with pytest.raises(Finding, match=what):
        judge([OWN], OWN.nonce, seen, {OWN.nonce, OTHER}, valid=True)


def test_pieces_are_the_same_bytes_and_a_seed_plays_the_same_again() -> None:
    for seed in range(200):
        data = random.Random(seed).randbytes(400)
        assert b"".join(mutation.pieces(random.Random(seed), data)) == data
        assert mutation.mutate(random.Random(seed), data) == mutation.mutate(random.Random(seed), data)
