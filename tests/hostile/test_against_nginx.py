"""The same raw requests through nginx and through the router, in front of the same worker.

nginx is what operators trust to tell good requests from bad ones. Where the two differ, the difference is
listed with its reason in `rawhttp.differences`: one that is not listed fails, and so does a listed one that
has gone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from live.fake_worker import FakeWorker, fake_workers
from live.front import Front
from rawhttp.cases import CASES, Case
from rawhttp.differences import DIFFERENCES
from rawhttp.nginx import is_here, nginx
from rawhttp.sender import PROBE_PATH, echo, exchange

pytestmark = pytest.mark.skipif(not is_here(), reason="there is no nginx to compare with")


@pytest.fixture(scope="module")
def nginx_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FakeWorker]]:
    """nginx's URL, and the worker behind it."""
    with (
        fake_workers(1) as (worker,),
        nginx(tmp_path_factory.mktemp("nginx"), worker.host, worker.port) as url,
    ):
        yield url, worker


def passed_on(worker: FakeWorker) -> int:
    """Requests that reached the worker, but for the probes behind them."""
    return len([call for call in worker.calls if call.path != PROBE_PATH])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nginx_and_the_router_take_and_refuse_the_same(
    front: Front, nginx_front: tuple[str, FakeWorker], case: Case
) -> None:
    url, worker = nginx_front
    worker.forget()
    worker.script = echo
    front.script(echo)
    by_nginx = exchange(url, case.data, case.name)
    by_router = exchange(front.router.url, case.data, case.name)
    assert passed_on(worker) == by_nginx.statuses.count(200)
    assert sum(map(passed_on, front.workers)) == by_router.statuses.count(200), "nothing is smuggled"
    found = (by_nginx.kinds, by_router.kinds)
    if case.name in DIFFERENCES:
        assert found == DIFFERENCES[case.name][:2], "as listed in rawhttp.differences"
    else:
        assert by_nginx.kinds == by_router.kinds


def test_a_listed_difference_belongs_to_a_case_and_is_one() -> None:
    assert DIFFERENCES.keys() <= {case.name for case in CASES}
    assert all(nginx_does != router_does for nginx_does, router_does, _ in DIFFERENCES.values())
    assert all(len(reason) > 10 for _, _, reason in DIFFERENCES.values())
