"""Every flag of sglang-router, vllm-router and smg has an answer, and it is the one that is written down.

`flags/` holds what argparse says of each peer's own command line.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from warmroute import cli
from warmroute.config import peers
from warmroute.config.flags import settled
from warmroute.config.peers.catalogue import Peer
from warmroute.config.peers.shape import Kind
from warmroute.config.peers.vllm_router import DOCUMENTED
from warmroute.config.settings import FIELDS, flag_of, is_list

FLAGS = Path(__file__).with_name("flags")

# As their argparse lists them.
COUNTS = {"sglang-router": 98, "vllm-router": 71, "smg": 221}

# A certificate would have to be there, and its key.
FILES = {"tls_cert", "tls_key", "upstream_ca", "upstream_client_cert", "upstream_client_key"}

# Settings without which the flag would not mean what it does there.
COMPANIONS = {
    "--disable-circuit-breaker": ["eject_error_rate"],
    "--request-timeout-secs": ["first_byte_timeout_s"],
}

URL = "http://gpu1:8000"

# What a flag is given where its default or its choices do not say what fits.
SAMPLES = {
    "--rate-limit-tokens-per-second": ["7"],
    "--worker-urls": [URL],
    "--selector": ["app=sglang"],
    "--control-plane-api-keys": ["ci:CI/CD Pipeline:admin:secret"],
    "--request-id-headers": ["x-trace-id"],
    "--routing-key-headers": ["x-session-id"],
    "--prometheus-host": ["127.0.0.1"],
    "--otlp-traces-endpoint": ["collector:4317"],
    "--host": ["0.0.0.0"],
    "--health-check-endpoint": ["/ready"],
    "--backend": [URL],
    "--policy": ["random"],
    "--log-level": ["warn"],
    "--discovery-check-interval-secs": ["10"],
    "--assignment-mode": ["random"],
    "--cors-allowed-origins": ["https://chat.example"],
}


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("ROUTER_", "SMG_", "VLLM_ROUTER_")):
            monkeypatch.delenv(name)


def listed(peer: Peer) -> list[dict[str, Any]]:
    """What argparse says of the peer's command line."""
    rows: list[dict[str, Any]] = json.loads((FLAGS / f"{peer.name}-{peer.version}.json").read_text("utf-8"))
    return rows


def sample(flag: str) -> list[str]:
    """Words that the flag accepts, and that are not its default."""
    if peers.values_of(flag) == "0":
        return []
    if flag in SAMPLES:
        return SAMPLES[flag]
    spellings = [peer.flags[flag] for peer in peers.PEERS if flag in peer.flags]
    number = next((spelling.default for spelling in spellings if spelling.default), "")
    try:
        return [str(int(number) + 7)]
    except ValueError:
        return ["other"]


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_a_peers_flags_are_those_that_its_argparse_lists(peer: Peer) -> None:
    of_readme = {line.split()[0] for line in DOCUMENTED.splitlines()}
    here = {flag: spelling for flag, spelling in peer.flags.items() if flag not in of_readme}
    there: dict[str, tuple[str, bool, str]] = {}
    for row in listed(peer):
        switch = row["action"] == "BooleanOptionalAction" or row["nargs"] == 0
        values = "0" if switch else str(row["nargs"] or 1)
        grows = row["action"] in ("_AppendAction", "_ExtendAction")
        default = "" if switch or row["default"] in (None, [], {}) else str(row["default"])
        there |= dict.fromkeys(row["flags"], (values, grows, default))
    assert len(here) == COUNTS[peer.name]
    assert {flag: (it.values, it.grows, it.default) for flag, it in here.items()} == there


def test_every_flag_has_an_answer_and_every_answer_a_flag() -> None:
    assert set(peers.ANSWERS) == set(peers.OWNERS)


def test_a_flag_takes_as_many_words_in_one_peer_as_in_another() -> None:
    for flag in peers.OWNERS:
        assert len({peer.flags[flag].values for peer in peers.PEERS if flag in peer.flags}) == 1, flag


def test_what_a_flag_sets_is_a_setting_and_what_it_does_not_is_told_why() -> None:
    for flag, answer in peers.ANSWERS.items():
        if answer.kind is Kind.SETS:
            assert answer.target in FIELDS, flag
        if answer.kind in (Kind.WITHOUT_EFFECT, Kind.REFUSED):
            assert answer.text, flag


def test_no_reason_names_a_flag_that_the_router_does_not_have() -> None:
    # Of the engines, and one of the peers that is taken here.
    others = {"--served-model-name", "--selector"}
    own = {flag_of(name) for name in FIELDS}
    for flag, answer in peers.ANSWERS.items():
        if answer.kind in (Kind.WITHOUT_EFFECT, Kind.REFUSED):
            assert set(re.findall(r"--[a-z][a-z-]+", answer.text)) <= own | others, flag


@pytest.mark.parametrize("flag", peers.OWNERS)
def test_a_flag_alone_does_what_its_answer_says(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer, words = peers.ANSWERS[flag], sample(flag)
    if answer.target in FILES:
        given, notes = settled(cli.settings_parser("config").parse_words([flag, *words]))
        assert {name: it.origin for name, it in given.items()} == {answer.target: flag}
        assert not notes
        return
    code = cli.main(["config", "--json", "-", flag, *words])
    out, err = capsys.readouterr()
    lines = err.splitlines()
    if answer.kind is Kind.REFUSED:
        owner = peers.OWNERS[flag]
        assert (code, out) == (cli.USAGE, "")
        assert lines == [f"router: error: {flag} is a flag of {owner} without a counterpart: {answer.text}"]
        return
    assert code == cli.OK, err
    document = json.loads(out)
    changed = {name for name, it in document.items() if it["source"] != "default"}
    if answer.kind is Kind.WITHOUT_EFFECT:
        assert lines == [f"router: {flag} has no effect: {answer.text}"]
        assert changed == set()
    elif answer.kind is Kind.SETS:
        assert document[answer.target]["source"] == flag
        assert changed == {answer.target, *COMPANIONS.get(flag, ())}
        assert not lines
    elif answer.kind is Kind.SAME:
        assert changed == {flag.removeprefix("--").replace("-", "_")}
    else:
        assert changed or lines, "a flag that changes nothing is not passed over in silence"


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_a_command_line_that_spells_out_a_peers_defaults_is_accepted(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for flag, it in peer.flags.items() if it.default for word in (flag, it.default)]
    code = cli.main(["config", "--json", "-", *words, "--worker-urls", URL])
    out, err = capsys.readouterr()
    assert code == cli.OK, err
    document = json.loads(out)
    assert [backend["url"] for backend in document["backend"]["value"]] == [URL]
    assert document["retries"]["value"] == 4
    assert document["eject_after_failures"]["value"] == 10


def naive(word: str) -> str:
    """argparse's rule, peer by peer: a beginning that only one flag has. Own flags are not abbreviated."""
    own = {flag_of(name) for name in FIELDS}
    if word in own or word in peers.OWNERS or any(flag.startswith(word) for flag in own):
        return word
    meant = set()
    for peer in peers.PEERS:
        begun = [flag for flag in peer.flags if flag.startswith(word)]
        meant |= set(begun) if len(begun) == 1 else set()
    return meant.pop() if len(meant) == 1 else word


def test_an_abbreviation_means_what_argparse_takes_it_for() -> None:
    own = [flag_of(name) for name in FIELDS]
    expanded = 0
    for flag in peers.OWNERS:
        for length in range(3, len(flag) + 1):
            word = flag[:length]
            assert peers.whole_flag(word, own) == naive(word), word
            assert peers.whole_flag(f"{word}=a=b", own) == f"{naive(word)}=a=b"
            expanded += naive(word) != word
    assert expanded > 1000
    for word in ("-", "--", "-x", "http://gpu1:8000", "", "--nonsense"):
        assert peers.whole_flag(word, own) == word


def test_lists_of_settings_take_lists_of_words() -> None:
    for flag, answer in peers.ANSWERS.items():
        if answer.kind is Kind.SETS and peers.values_of(flag) in "*+":
            assert is_list(FIELDS[answer.target]) or answer.target == "upstream_ca", flag
