"""`router top` as a person uses it: a real pseudo-terminal in front of a real router with traffic."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from live.fake_worker import FakeWorker, fake_workers
from live.front import Front
from live.polling import eventually
from live.processes import spawn_router
from live.terminal import StartTop, Terminal


def name_of(worker: FakeWorker) -> str:
    return worker.url.removeprefix("http://")


def row_of(top: Terminal, worker: FakeWorker) -> str:
    """The worker's line in the table of workers."""
    end = next(number for number, line in enumerate(top.lines) if "decisions" in line)
    return next((line for line in top.lines[:end] if name_of(worker) in line), "")


def marked(top: Terminal) -> str:
    return next((line for line in top.lines if line.startswith("▶")), "")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_it_shows_the_workers_the_totals_and_the_latest_decisions(
    busy: Front, start_top: StartTop, columns: int, lines: int
) -> None:
    top = start_top(busy.router.url, columns=columns, lines=lines)
    names = [name_of(worker) for worker in busy.workers]
    text = top.wait_for(
        *names, "cache_aware", "req/s", "hit rate", "3 of 3 take requests", "40 %", "ok ", "q quit"
    )
    assert len(text.splitlines()) == lines
    assert ("5 known" in text) is (columns == 200)  # sessions beside decisions, where there is room


def test_tab_goes_through_the_panes_that_do_not_fit(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for("predicted", "actual")
    top.press("\t")
    top.wait_for("requests saved")
    top.press("\t")
    top.wait_for("session-1", "turns")
    top.press("\t")
    top.wait_for("would hit")
    top.press("\t")
    top.wait_for("predicted", "actual")
    top.press("\x1b[Z")
    top.wait_for("would hit")


def test_a_worker_is_drained_and_taken_back_by_keys_after_a_yes(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    second = busy.workers[1]
    top.wait_for(name_of(second))
    top.press("j")
    eventually(lambda: name_of(second) in marked(top), "the second worker is selected")
    top.press("d")
    top.wait_for(f"drain {second.url}?")
    assert busy.worker_state(second)["draining"] is False
    top.press("y")
    eventually(lambda: busy.worker_state(second)["draining"], "the worker drains")
    top.wait_for(f"{second.url} drains", "2 of 3 take requests")
    eventually(lambda: "draining" in row_of(top, second), "its status is shown")
    top.press("u")
    top.wait_for("take back into service")
    top.press("y")
    eventually(lambda: not busy.worker_state(second)["draining"], "the worker is back")
    top.wait_for("3 of 3 take requests")


def test_any_other_key_than_yes_changes_nothing(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for(name_of(busy.workers[0]))
    top.press("d")
    top.wait_for("drain http://")
    top.press("q")  # not even that: it is the answer to the question
    top.wait_for("nothing was changed")
    assert not any(busy.worker_state(worker)["draining"] for worker in busy.workers)
    top.press("u")
    top.wait_for("is not draining")
    assert top.process.poll() is None


def test_arrows_select_and_stay_within_the_list(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for(name_of(busy.workers[2]))
    top.press("\x1b[B" * 5)
    eventually(lambda: name_of(busy.workers[2]) in marked(top), "the last one is selected")
    top.press("\x1b[Ak\x1b[A")
    eventually(lambda: name_of(busy.workers[0]) in marked(top), "the first one is selected")


def test_a_pause_keeps_the_picture(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for("up ")
    top.press("p")
    paused = top.wait_for("PAUSED")
    shown = busy.counted("router_requests_total")
    eventually(lambda: busy.counted("router_requests_total") > shown + 60, "two seconds of traffic pass")
    assert top.text == paused
    top.press("p")
    top.wait_without("PAUSED")
    eventually(lambda: top.lines[0] != paused.splitlines()[0].replace("  PAUSED", ""), "time goes on")


def test_it_fills_a_window_that_changes_its_size(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for("q quit", name_of(busy.workers[0]))
    for columns, lines in ((200, 50), (40, 12), (100, 30)):
        top.resize(columns, lines)
        eventually(lambda: top.lines[-1].startswith("q quit"), "the keys are in the last line")
        eventually(lambda: top.lines[0].startswith("warmroute"), "the header is in the first line")
        assert (len(top.lines), top.screen.columns) == (lines, columns)
    assert top.process.poll() is None


def test_help_explains_and_any_key_leaves_it(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url)
    top.wait_for(name_of(busy.workers[0]))
    top.press("?")
    top.wait_for("drain the selected worker", "any key: back")
    top.press(" ")
    top.wait_without("any key: back")


def quit_by_key(top: Terminal) -> None:
    top.press("q")


def interrupt(top: Terminal) -> None:
    top.press("\x03")


def terminate(top: Terminal) -> None:
    top.process.send_signal(signal.SIGTERM)


def hang_up(top: Terminal) -> None:
    top.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("end", [quit_by_key, interrupt, terminate, hang_up])
def test_the_terminal_is_as_before_however_it_ends(
    busy: Front, start_top: StartTop, end: Callable[[Terminal], None]
) -> None:
    top = start_top(busy.router.url)
    top.wait_for(name_of(busy.workers[0]))
    assert top.is_changed()
    end(top)
    assert top.wait() == 0
    assert not top.is_changed()
    assert b"Traceback" not in top.output


def test_without_colours_nothing_is_coloured_and_the_selected_worker_is_still_marked(
    busy: Front, start_top: StartTop
) -> None:
    top = start_top(busy.router.url, env={"NO_COLOR": "1"})
    top.wait_for(name_of(busy.workers[0]), "healthy")
    assert marked(top)
    assert all(b"\x1b[3%dm" % colour not in top.output for colour in range(1, 8))
    coloured = start_top(busy.router.url)
    coloured.wait_for("healthy")
    assert b"\x1b[32m" in coloured.output


def test_a_dumb_terminal_gets_plain_lines(busy: Front, start_top: StartTop) -> None:
    top = start_top(busy.router.url, "--interval-s", "0.1", columns=120, env={"TERM": "dumb"})
    eventually(lambda: top.text.count("workers 3/3") >= 3, "three lines")
    interrupt(top)
    assert top.wait() == 0
    assert b"\x1b" not in top.output
    assert b"Traceback" not in top.output


def test_a_router_that_goes_away_and_comes_back_is_found_again(
    start_top: StartTop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("again")
    with fake_workers(1) as [worker]:
        flags = ("--backend", worker.url, "--no-model-discovery")
        router = spawn_router(folder / "first.log", *flags)
        top = start_top(router.url)
        try:
            top.wait_for(name_of(worker))
            router.kill()
            top.wait_for("not reachable, trying again", name_of(worker))
            router = spawn_router(folder / "second.log", *flags, "--port", str(router.port))
            text = top.wait_without("not reachable")
            assert name_of(worker) in text
        finally:
            router.kill()
        top.press("q")
        assert top.wait() == 0


def test_a_router_that_was_never_there_is_said_once_the_terminal_is_as_before(start_top: StartTop) -> None:
    with fake_workers(1) as [absent]:
        absent.stop_listening()
        top = start_top(absent.url)
        assert top.wait() == 1
        assert not top.is_changed()
        assert f"router top: error: {absent.url}: nobody listens there" in top.text.replace("\n", "")


def test_a_wrong_key_is_said_once_the_terminal_is_as_before(
    start_top: StartTop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    router = spawn_router(tmp_path_factory.mktemp("locked") / "router.log", "--admin-api-key", "right")
    try:
        top = start_top(router.url, "--api-key", "wrong")
        assert top.wait() == 1
        assert not top.is_changed()
        assert "needs an admin key" in top.text.replace("\n", "")
        keyed = start_top(router.url, env={"ROUTER_ADMIN_API_KEY": "right another"})
        keyed.wait_for("0 of 0 take requests")
    finally:
        router.kill()
