"""When a worker is ejected, for how long, and what an outage's stragglers do not change."""

from __future__ import annotations

import pytest

from warmroute_policies.resilience import Checks, Ejector, Trust

FAILURES = 3
EJECT_FOR_S = 10.0


@pytest.fixture
def ejector() -> Ejector:
    return Ejector(FAILURES, EJECT_FOR_S)


def eject(ejector: Ejector, now: float) -> None:
    for _ in range(FAILURES):
        ejector.failed(now)


def fail_probe(ejector: Ejector, now: float) -> None:
    assert ejector.probe_due(now)
    ejector.trust = Trust.PROBING
    ejector.failed(now)


def test_failures_in_a_row_eject_and_a_success_between_them_does_not(ejector: Ejector) -> None:
    for _ in range(5):
        ejector.failed(0.0)
        ejector.failed(0.0)
        ejector.succeeded()
    assert ejector.accepts
    eject(ejector, 0.0)
    assert not ejector.accepts


def test_a_probe_is_due_after_the_time_of_ejection(ejector: Ejector) -> None:
    eject(ejector, 100.0)
    assert not ejector.probe_due(100.0 + EJECT_FOR_S - 0.1)
    assert ejector.probe_due(100.0 + EJECT_FOR_S)


def test_each_failed_probe_doubles_the_time_up_to_eight_times(ejector: Ejector) -> None:
    now = 0.0
    eject(ejector, now)
    for factor in (1, 2, 4, 8, 8):
        assert not ejector.probe_due(now + factor * EJECT_FOR_S - 0.1)
        now += factor * EJECT_FOR_S
        fail_probe(ejector, now)


def test_a_successful_probe_forgets_the_former_ejections(ejector: Ejector) -> None:
    eject(ejector, 0.0)
    fail_probe(ejector, EJECT_FOR_S)
    ejector.trust = Trust.PROBING
    ejector.succeeded()
    eject(ejector, 1000.0)
    assert ejector.probe_due(1000.0 + EJECT_FOR_S)


def test_other_limits_hold_from_the_next_failure_on(ejector: Ejector) -> None:
    ejector.reconfigure(failures=1, eject_for_s=50.0)
    ejector.failed(1.0)
    assert ejector.trust is Trust.EJECTED
    assert not ejector.probe_due(50.0)
    assert ejector.probe_due(51.1)
    ejector.reconfigure(failures=1, eject_for_s=1.0)
    assert not ejector.probe_due(50.0), "an ejection under way ends when it was to end"
    checks = Checks(rise=3, fall=3)
    assert checks.seen(None, 1.0)
    checks.reconfigure(rise=1, fall=1)
    assert not checks.seen("down", 2.0)
    assert checks.seen(None, 3.0)


def test_requests_that_die_with_an_ejected_worker_do_not_keep_it_out_longer(ejector: Ejector) -> None:
    eject(ejector, 0.0)
    for late_by_s in range(100):
        ejector.failed(late_by_s / 100)
    assert ejector.probe_due(EJECT_FOR_S)


def test_each_judgement_as_an_outlier_doubles_the_time_until_it_is_forgiven(ejector: Ejector) -> None:
    now = 0.0
    for factor in (1, 2, 4, 8, 8):
        ejector.judge(now)
        assert ejector.judged
        assert not ejector.probe_due(now + factor * EJECT_FOR_S - 0.1)
        now += factor * EJECT_FOR_S
        assert ejector.probe_due(now)
        ejector.succeeded()  # it answers its probe: that was never in doubt
        assert ejector.accepts
        assert not ejector.judged
    now += 8 * EJECT_FOR_S
    ejector.judge(now)
    assert ejector.probe_due(now + EJECT_FOR_S), "so long a time without a judgement forgives"
