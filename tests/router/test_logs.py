"""Log lines: their two forms, what cannot forge them, and a reader that has stopped reading."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from live.polling import eventually
from live.processes import Engines, StartRouter
from warmroute.config import Settings
from warmroute.logs import BoundedQueueHandler, ConsoleFormatter, JsonFormatter, set_up_logging

log = logging.getLogger("warmroute.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logging_to(stream: io.StringIO, **settings: Any) -> Iterator[None]:
    """What was logged inside is written at the end."""
    stop = set_up_logging(Settings(**settings), stream)
    try:
        yield
    finally:
        stop()


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_holds_the_message_and_the_extras_as_fields() -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="json"):
        log.info(
            "worker %s",
            "ejected",
            extra={"worker": "http://a:1", "kinds": ["x"], "ttft_s": 0.5, "none": None},
        )
    [line] = json_lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "warmroute.test",
        "message": "worker ejected",
        "worker": "http://a:1",
        "kinds": ["x"],
        "ttft_s": 0.5,
        "none": None,
    }


def test_an_extra_cannot_replace_what_every_line_has() -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="json"):
        log.warning("real", extra={"level": "debug", "time": 0})
    [line] = json_lines(stream)
    assert line["level"] == "warning"
    assert line["time"] != 0


def test_an_exception_is_one_field_of_one_line() -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="json"):
        try:
            raise RuntimeError("it broke\nhere")
        except RuntimeError:
            log.exception("failed")
    [line] = json_lines(stream)
    assert "Traceback" in line["exception"]
    assert "it broke\nhere" in line["exception"]


def test_the_form_follows_the_terminal_and_colours_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with logging_to(stream):
            log.info("hello", extra={"n": 1})
    assert "\x1b[" in terminal.getvalue()
    assert json_lines(pipe)[0]["n"] == 1
    colourless = io.StringIO()
    with logging_to(colourless, log_format="console"):
        log.info("hello", extra={"n": 1})
    assert "\x1b" not in colourless.getvalue()
    assert "INFO" in colourless.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    with logging_to(plain):
        log.info("hello")
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize("formatter", [ConsoleFormatter(colour=False), JsonFormatter()])
def test_what_a_client_sends_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    evil = 'x\n12:00:00.000  INFO     admin logged in\x1b[2J "quoted" \x00\x85'
    record = logging.makeLogRecord({"msg": "model %s", "args": (evil,), "levelname": "INFO", "model": evil})
    text = formatter.format(record)
    assert text.isprintable()
    assert "\n" not in text


def test_the_columns_of_the_console_stand_below_each_other() -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="console"):
        log.info("one", extra={"worker": "http://a:1"})
        log.warning("two words", extra={"worker": "http://b:1"})
    first, second = stream.getvalue().splitlines()
    assert first.index("worker=") == second.index("worker=")
    assert first.index("one") == second.index("two words")


def test_the_level_is_for_the_router_and_others_are_quieter() -> None:
    stream = io.StringIO()
    with logging_to(stream, log_format="json", log_level="info"):
        log.debug("no")
        log.info("yes")
        logging.getLogger("httpx").info("no")
        logging.getLogger("uvicorn.access").info("no")
        logging.getLogger("uvicorn.error").error("yes, this too")
    assert [line["message"] for line in json_lines(stream)] == ["yes", "yes, this too"]
    loud = io.StringIO()
    with logging_to(loud, log_level="debug"):
        log.debug("yes")
    assert [line["message"] for line in json_lines(loud)] == ["yes"]


def test_stopping_brings_the_former_logging_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("httpx").level
    stop = set_up_logging(Settings(log_level="debug"), io.StringIO())
    assert root.handlers != before[0]
    stop()
    stop()
    assert (root.handlers, root.level, logging.getLogger("httpx").level) == before


class Stuck(io.StringIO):
    """A terminal that somebody has paused."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.go_on.wait(20)
        return super().write(text)


def test_a_reader_that_stops_reading_stalls_nobody_and_is_told_what_it_missed() -> None:
    stream = Stuck()
    stop = set_up_logging(Settings(log_format="json"), stream)
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, BoundedQueueHandler)
    log.info("first")
    assert stream.entered.wait(20), "the writer is stuck inside the first line"
    room = handler.records.maxsize
    for number in range(room + 123):
        log.info("line %d", number)
    assert handler.dropped == 123
    stream.go_on.set()
    eventually(handler.records.empty, "all is written")
    stop()
    messages = [line["message"] for line in json_lines(stream)]
    assert messages[0] == "first"
    assert "123 log lines were dropped" in messages[1]
    assert messages[2:] == [f"line {number}" for number in range(room)]


def test_a_log_line_holds_what_was_true_when_it_was_logged() -> None:
    stream = Stuck()
    stop = set_up_logging(Settings(log_format="json"), stream)
    log.info("first")
    assert stream.entered.wait(20)
    names = ["early"]
    log.info("names: %s", names)
    names.append("late")
    stream.go_on.set()
    stop()
    assert json_lines(stream)[1]["message"] == "names: ['early']"


@pytest.mark.parametrize("flags", [(), ("--access-log",)], ids=["off", "on"])
def test_the_access_log_is_a_line_per_request_and_off_unless_asked_for(
    engines: Engines, start_router: StartRouter, flags: tuple[str, ...]
) -> None:
    body = {
        "model": "llama-3.1-8b",
        "messages": [{"role": "user", "content": "secret words"}],
        "max_tokens": 3,
    }
    router = start_router(*engines.urls, flags=flags)
    headers = {"x-request-id": "my-id"}
    answer = httpx.post(f"{router.url}/v1/chat/completions", json=body, headers=headers, trust_env=False)
    assert answer.status_code == 200
    router.terminate()
    assert router.wait() == os.EX_OK
    assert "secret words" not in router.text()
    lines = [line for line in router.lines() if line["message"] == "request"]
    if not flags:
        assert lines == []
        return
    [line] = lines
    assert line["request_id"] == "my-id"
    assert line["worker"] == answer.headers["x-router-worker"]
    assert line["outcome"] == "ok"
    assert line["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
