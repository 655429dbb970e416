"""Every raw request of the list: its answer, what reaches a worker, and who is served afterwards."""

from __future__ import annotations

import pytest

from live.front import CHAT, Front
from rawhttp.cases import CASES, Case
from rawhttp.sender import echo, exchange, fingerprint


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_raw_request_is_served_or_refused_and_nothing_else_happens(front: Front, case: Case) -> None:
    front.script(echo)
    seen = exchange(front.router.url, case.data, case.name)
    assert seen.statuses == case.statuses
    served = [answer for answer in seen.answers if answer.status == 200]
    calls = [call for call in front.calls if call.path != "/v1/completions"]
    assert len(calls) == len(served), "a worker sees exactly what is answered"
    for call, answer in zip(calls, served, strict=True):
        assert answer.json() == {"line": call.line, "body": fingerprint(call.body)}, "everyone gets their own"
    for answer in seen.answers:
        if answer.status >= 400:
            message = answer.json()["error"]["message"]
            assert len(message) > 10, "what is wrong is said in words"
    assert front.ask(CHAT).status == 200, "the next client is served"


def test_a_case_is_known_by_its_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
