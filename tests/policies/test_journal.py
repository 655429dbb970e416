"""A journal replays to the same decisions, says what is wrong with it, and holds no prompt text."""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from traffic import MARKER, SESSIONS, Traffic
from warmroute_policies import balancer
from warmroute_policies.balancer import Balancer
from warmroute_policies.blocks import NO_BLOCKS, PromptBlocks, salt_of
from warmroute_policies.config import BalancerConfig
from warmroute_policies.errors import ConfigError
from warmroute_policies.events import VERSION, Line, PolicySpec, Refusal, Routed
from warmroute_policies.journal import RecordedBalancer
from warmroute_policies.latency import PrefillPrice
from warmroute_policies.parameters import Value
from warmroute_policies.policy import Policy
from warmroute_policies.pseudonym import pseudonym
from warmroute_policies.registry import available, make_policy
from warmroute_policies.replay import JournalError, read, replay
from warmroute_policies.types import Decision, Outcome, RoutingRequest, Usage, WorkerSpec

PARAMS: dict[str, dict[str, Value]] = {
    "cache_aware": {"miss_price": 1.5},
    "session_sticky": {"inner": "cache_aware", "inner.rent_price": 0.5},
    "prefix_hash": {"slack_requests": 1.0},
}


def recorded(policy: str, seed: int, steps: int, config: BalancerConfig | None = None) -> list[bytes]:
    """The lines of a course of random traffic."""
    lines: list[bytes] = []
    spec = PolicySpec(policy, PARAMS.get(policy, {}), seed)
    balancer = RecordedBalancer(
        make_policy(spec.name, spec.params, spec.seed), config, write=lines.append, made_by=spec
    )
    traffic = Traffic(balancer, seed, reports=True)
    for _ in traffic.steps(steps):
        pass
    traffic.end()
    return lines


# --- the same decisions ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", available())
@pytest.mark.parametrize("seed", range(5))
def test_a_replay_decides_what_was_decided_live(policy: str, seed: int) -> None:
    config = BalancerConfig(
        prices={"default": PrefillPrice(3e-5, 1e-9)}, sessions_max=2, bytes_per_token=3.3, replicas=2
    )
    lines = recorded(policy, seed, 600, config)
    verdicts = list(replay(lines))
    assert len(verdicts) > 150
    assert any(isinstance(then, Decision) and then.attempt for then, _ in verdicts), "no reroute was seen"
    for number, (then, now) in enumerate(verdicts):
        assert now == then, f"seed {seed}, verdict {number}"


def test_the_traffic_of_these_tests_holds_refusals_hits_and_every_kind_of_line() -> None:
    lines = [line for seed in range(5) for line in recorded("cache_aware", seed, 600)]
    kinds = {json.loads(line)["e"] for line in lines}
    elsewhere = {"policy", "know", "blocks", "cleared", "doubt"}  # the latter in test_known
    assert kinds == {line_type.__struct_config__.tag for line_type in get_args(Line)} - elsewhere
    verdicts = [verdict for seed in range(5) for verdict in replay(recorded("cache_aware", seed, 600))]
    assert any(isinstance(then, Refusal) for then, _ in verdicts)
    assert any(isinstance(then, Decision) and then.predicted_hit_tokens for then, _ in verdicts)


def test_a_balancer_with_a_journal_decides_like_one_without() -> None:
    lines: list[bytes] = []
    plain = Traffic(Balancer(make_policy("consistent_hash", {}, 4)), 4)
    spec = PolicySpec("consistent_hash", {}, 4)
    journalled = Traffic(
        RecordedBalancer(make_policy("consistent_hash", {}, 4), write=lines.append, made_by=spec), 4
    )
    for _ in zip(plain.steps(800), journalled.steps(800), strict=True):
        assert plain.last == journalled.last


def test_the_answer_that_a_prompt_continues_is_credited_again_in_the_replay() -> None:
    lines: list[bytes] = []
    spec = PolicySpec("cache_aware")
    balancer = RecordedBalancer(make_policy("cache_aware"), write=lines.append, made_by=spec)
    for worker in ("a", "b"):
        balancer.add_worker(WorkerSpec(worker), 0.0)
    conversation = b"[" + b"a question " * 300 + b"]"
    for turn in range(6):
        now = float(turn)
        balancer.route(RoutingRequest(turn, "m", PromptBlocks(conversation, salt_of("m"))), now)
        balancer.first_token(turn, now + 0.1)
        tokens = len(conversation) // 4
        balancer.finish(turn, Outcome.OK, Usage(tokens, 400, None), now + 0.5)
        conversation = conversation[:-1] + b"an answer " * 160 + b"more " * 20 + b"]"
    routed = [line for _, line in read(lines) if isinstance(line, Routed)]
    assert any(line.continued for line in routed), "no turn was credited with the answer before it"
    for then, now_ in replay(lines):
        assert now_ == then


def test_a_journal_read_from_a_file_replays(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(recorded("least_requests", 1, 200)))
    with path.open("rb") as lines:
        assert all(then == now for then, now in replay(lines))


def test_a_plugin_is_found_through_the_maker_that_the_caller_gives() -> None:
    lines = recorded("random", 2, 100)
    lines[0] = lines[0].replace(b'"random"', b'"mine"')
    with pytest.raises(ConfigError, match="there is no policy `mine`"):
        list(replay(lines))

    def mine(name: str, params: Mapping[str, Value], seed: int) -> Policy:
        assert name == "mine"
        return make_policy("random", params, seed)

    assert all(then == now for then, now in replay(lines, mine))


def test_a_difference_is_shown_and_not_hidden() -> None:
    lines = recorded("random", 3, 200)
    lines[0] = lines[0].replace(b'"seed":3', b'"seed":4')
    assert any(then != now for then, now in replay(lines))


def test_a_dry_run_knows_the_sessions_of_a_recorded_balancer_and_leaves_no_line() -> None:
    lines: list[bytes] = []
    spec = PolicySpec("session_sticky")
    balancer = RecordedBalancer(make_policy("session_sticky"), write=lines.append, made_by=spec)
    for worker in ("a", "b", "c"):
        balancer.add_worker(WorkerSpec(worker), 0.0)
    home = balancer.route(RoutingRequest(1, "m", NO_BLOCKS, session="ada"), 1.0).worker
    before = len(lines)
    assert balancer.explain(RoutingRequest(2, "m", NO_BLOCKS, session="ada"), 2.0)[:2] == (home, "sticky")
    assert len(lines) == before


# --- what is written ------------------------------------------------------------------------------


def test_every_method_of_the_balancer_that_writes_is_recorded() -> None:
    source = Path(balancer.__file__).with_name("balancer.py")  # compiled methods have no docstrings
    (made,) = [
        node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Balancer"
    ]
    writes = {
        method.name
        for method in made.body
        if isinstance(method, ast.FunctionDef)
        and not method.name.startswith("_")
        and (ast.get_docstring(method) or "").startswith("Writes")
    }
    assert writes
    assert writes <= set(vars(RecordedBalancer)), writes - set(vars(RecordedBalancer))


def test_every_fact_of_a_request_is_in_its_line() -> None:
    fields = set(RoutingRequest.__struct_fields__)
    assert fields - set(Routed.__struct_fields__) == set()


def test_the_owner_of_what_a_request_is_about_is_in_its_line_and_decides_again_in_the_replay() -> None:
    lines: list[bytes] = []
    spec = PolicySpec("least_requests")
    live = RecordedBalancer(make_policy(spec.name), write=lines.append, made_by=spec)
    for name in ("a", "b"):
        live.add_worker(WorkerSpec(name), 0.0)
    live.set_health("b", False, 0.5)
    for number in range(4):
        live.route(RoutingRequest(number, "m", NO_BLOCKS, owner="b"), 1.0)
    decided = [replayed for _, replayed in replay(lines)]
    assert [(verdict.worker, verdict.reason) for verdict in decided if isinstance(verdict, Decision)] == [
        ("b", "owner")
    ] * 4


def test_a_line_that_was_written_before_there_were_owners_reads_as_one_without() -> None:
    lines = recorded("least_requests", 3, 50)
    assert b'"owner"' not in b"".join(lines)
    routed = [event for _, event in read(lines) if isinstance(event, Routed)]
    assert routed
    assert all(event.owner is None for event in routed)


@pytest.mark.parametrize("policy", available())
def test_no_line_holds_prompt_text_or_a_session_in_clear(policy: str) -> None:
    lines = recorded(policy, 5, 400)
    prompts = [line for line in lines if line.startswith(b'{"e":"route"')]
    assert prompts
    whole = b"".join(lines)
    for word in (*MARKER.split(), *SESSIONS):
        assert word.encode() not in whole
    for line in prompts:
        run = base64.b64decode(json.loads(line)["blocks"])
        assert len(run) % 8 == 0
        for word in MARKER.split():
            assert word.encode() not in run
    assert all(pseudonym(session).encode() in whole for session in SESSIONS)


def test_a_pseudonym_is_stable_hides_the_name_and_is_its_own_pseudonym() -> None:
    name = pseudonym("ada@example.org")
    assert name == "s~abc6d4cacdb5fccd677305db"
    assert pseudonym(name) == name
    assert pseudonym("s~short") != "s~short"
    assert len({pseudonym(f"session {i}") for i in range(10_000)}) == 10_000
    assert pseudonym("\ud800 not utf-8").startswith("s~")


def test_a_call_that_is_refused_for_what_it_asks_leaves_no_line() -> None:
    lines: list[bytes] = []
    balancer = RecordedBalancer(make_policy("random"), write=lines.append, made_by=PolicySpec("random"))
    with pytest.raises(KeyError):
        balancer.remove_worker("nobody", 0.0)
    with pytest.raises(KeyError):
        balancer.finish(1, Outcome.OK, None, 0.0)
    assert len(lines) == 1, "the header alone"


# --- what cannot be read --------------------------------------------------------------------------


def test_a_torn_last_line_is_dropped() -> None:
    lines = recorded("cache_aware", 1, 300)
    whole = list(replay(lines))
    last = max(i for i, line in enumerate(lines) if line.startswith(b'{"e":"route"'))
    for cut in (1, 10, len(lines[last]) // 2, len(lines[last]) - 2):
        torn = [*lines[:last], lines[last][:cut]]
        told: list[int] = []
        survived = list(replay(torn, torn_line=told.append))
        assert survived == whole[: len(survived)]
        assert all(then == now for then, now in survived)
        assert told == [last + 1], "the torn line is named"
    told = []
    assert list(replay(lines, torn_line=told.append)) == whole
    assert told == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b'{"e":"tick","now":"noon"}\n', r"line 3: Expected `float`, got `str` - at `\$.now`"),
        (b'{"e":"tock","now":1.0}\n', r"line 3: Invalid value 'tock' - at `\$.e`"),
        (b'{"e":"first_token","now":1.0}\n', "line 3: Object missing required field `request_id`"),
        (b'{"e":"tick","no\n', "line 3: Input data was truncated|line 3: JSON is malformed"),
        (b"\n", "line 3: Input data was truncated"),
        (
            b'{"e":"route","request_id":1,"model":"m","blocks":"?","bytes_len":0,"now":1}\n',
            r"line 3: Invalid base64 encoded string - at `\$.blocks`",
        ),
        (b'{"e":"first_token","request_id":999,"now":1.0}\n', "line 3: unknown here: 999"),
        (b'{"e":"drain","worker_id":"w","draining":true,"now":1.0}\n', "line 3: unknown here: 'w'"),
        (
            b'{"e":"route","request_id":1,"model":"m","blocks":"","bytes_len":0,"now":1}\n',
            "line 3: neither `decision` nor `refusal` is given",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_its_field(broken: bytes, message: str) -> None:
    lines = recorded("random", 1, 20)
    lines[2:] = [broken, *lines[2:]]
    with pytest.raises(JournalError, match=message) as caught:
        list(replay(lines))
    assert caught.value.line == 3


def test_a_broken_last_line_that_is_complete_is_an_error() -> None:
    with pytest.raises(JournalError, match="line"):
        list(replay([*recorded("random", 1, 20), b'{"e":"tock"}\n']))


def test_a_torn_line_in_the_middle_is_an_error() -> None:
    lines = recorded("random", 1, 20)
    lines[4] = lines[4][:9]
    with pytest.raises(JournalError, match="line 5"):
        list(replay(lines))


def test_another_version_is_named_before_anything_else_is_judged() -> None:
    lines = recorded("random", 1, 20)
    header = json.loads(lines[0])
    header["version"] = VERSION + 1
    header["policy"] = "a later release writes this otherwise"
    with pytest.raises(JournalError, match=f"version {VERSION + 1} was written; .* version {VERSION}"):
        list(replay([json.dumps(header).encode() + b"\n", *lines[1:]]))


def test_a_journal_without_its_header_is_refused() -> None:
    lines = recorded("random", 1, 20)
    with pytest.raises(JournalError, match="line 1: it should be a header"):
        list(replay(lines[1:]))
    with pytest.raises(JournalError, match="journal: it is empty"):
        list(replay([]))
    with pytest.raises(JournalError, match="line 1"):
        list(replay([lines[0][:20]]))


def test_two_journals_in_one_file_are_refused() -> None:
    lines = recorded("random", 1, 20)
    with pytest.raises(JournalError, match=f"line {len(lines) + 1}: a second header"):
        list(replay(lines * 2))


def test_a_configuration_out_of_range_is_refused_with_its_line() -> None:
    lines = recorded("random", 1, 20)
    header = json.loads(lines[0])
    header["config"]["bytes_per_token"] = -1
    with pytest.raises(JournalError, match="line 1: bytes_per_token must be above 0"):
        list(replay([json.dumps(header).encode() + b"\n"]))


def test_every_line_is_one_json_object_that_reads_back_equal() -> None:
    decode, encode = msgspec.json.Decoder(Line).decode, msgspec.json.encode
    for line in recorded("cache_aware", 6, 400):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert encode(decode(line)) + b"\n" == line
