"""Logging: the standard library's, as lines for people or as JSON for programs, never in the way.

Records go through a bounded queue to a thread that writes them, because a terminal that is scrolled back
or a full pipe blocks its writer, and the event loop must not be that. When the queue is full, records are
dropped and counted, and the count is logged once there is room again.

Fields given as `extra` become fields of the line. What comes from clients and workers cannot forge a line:
control characters are escaped.
"""

from __future__ import annotations

import atexit
import json
import logging
import logging.handlers
import os
import queue
import sys
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO, cast

import msgspec

from warmroute.audit import LOGGER as AUDIT
from warmroute.config import Settings
from warmroute_policies.errors import ConfigError

log: Final = logging.getLogger("warmroute")

# At some 300 bytes a line this is 3 MB, and a second of writing at ten thousand requests per second.
_QUEUE_RECORDS_MAX: Final = 10_000

# The process ends even when nobody reads its log.
_STOP_S: Final = 2.0

# The message column: names of events are shorter, fields then stand in one place.
_MESSAGE_WIDTH: Final = 26

_STANDARD: Final = frozenset(
    (*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message")
)

_COLOURS: Final = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"

# Others' loggers say at INFO what the router says itself: a request came, a request was sent.
_QUIET: Final = ("asyncio", "httpcore", "httpx", "uvicorn", "uvicorn.access", "uvicorn.error")


def set_up_logging(settings: Settings, stream: TextIO | None = None) -> Callable[[], None]:
    """Writes. All records go to `stream` (None: standard error) from now on. Returns what ends it: the
    records so far are written, and the former handlers of the root logger are back."""
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    as_console = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    colour = terminal and "NO_COLOR" not in os.environ
    writer = logging.StreamHandler(stream)
    writer.setFormatter(ConsoleFormatter(colour=colour) if as_console else JsonFormatter())
    handler = BoundedQueueHandler(_QUEUE_RECORDS_MAX)
    root, own, audit = logging.getLogger(), logging.getLogger("warmroute"), logging.getLogger(AUDIT)
    trail = None if settings.audit_log is None else audit_file(settings.audit_log)
    if trail is not None:  # its file gets every change, whatever the level of the log
        audit.setLevel(logging.INFO)
        writer.addFilter(lambda record: record.name != AUDIT or record.levelno >= own.level)
    former = root.handlers[:], root.level, own.level, {name: logging.getLogger(name).level for name in _QUIET}
    listener = _Listener(handler, writer) if trail is None else _Listener(handler, writer, trail)
    root.handlers = [handler]
    set_level(settings.log_level)
    listener.start()

    def stop() -> None:
        atexit.unregister(stop)
        if handler not in root.handlers:
            return
        listener.stop()
        handlers, root_level, own_level, levels = former
        root.handlers = handlers
        root.setLevel(root_level)
        own.setLevel(own_level)
        audit.setLevel(logging.NOTSET)
        if trail is not None:
            trail.close()
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)

    atexit.register(stop)
    return stop


def set_level(name: str) -> None:
    """Writes. The least important messages that are written from now on: debug, info, warning or error."""
    level = logging.getLevelNamesMapping()[name.upper()]
    logging.getLogger().setLevel(max(level, logging.INFO))
    logging.getLogger("warmroute").setLevel(level)
    for quiet in _QUIET:
        logging.getLogger(quiet).setLevel(max(level, logging.WARNING))


def dropped_lines() -> int:
    """Reads. Records that found the queue full since logging was set up."""
    handlers = logging.getLogger().handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, BoundedQueueHandler))


class BoundedQueueHandler(logging.handlers.QueueHandler):
    """State: the queue, and how many records found it full. Callers never wait."""

    def __init__(self, limit: int) -> None:
        self.records: queue.Queue[Any] = queue.Queue(limit)
        self.dropped = 0
        super().__init__(self.records)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Writes."""
        try:
            self.records.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record with its text made now: what its arguments point to may change before it is written."""
        record.msg = record.getMessage()
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
        return record


class _Listener(logging.handlers.QueueListener):
    """Writes records, and how many were lost, as soon as there is room to say so."""

    def __init__(self, source: BoundedQueueHandler, *handlers: logging.Handler) -> None:
        super().__init__(source.records, *handlers)
        self._source = source
        self._reported = 0

    def handle(self, record: logging.LogRecord) -> None:
        """Writes."""
        super().handle(record)
        lost = self._source.dropped - self._reported
        if lost:
            self._reported += lost
            text = f"{lost} log lines were dropped: they came faster than they could be written"
            super().handle(
                logging.LogRecord("warmroute.logs", logging.WARNING, __file__, 0, text, None, None)
            )

    def stop(self) -> None:
        """Writes. What waits is written first, unless whoever reads the log has stopped reading."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._source.records.put(None, timeout=_STOP_S)
        except queue.Full:
            return
        thread.join(_STOP_S)


class _AuditFile(logging.handlers.WatchedFileHandler):
    """Appends, and looks before every line whether the file is still the one at that path. State: the file,
    and whether it was complained about."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(JsonFormatter())
        self.addFilter(lambda record: record.name == AUDIT)
        self._failed = self._broken = False

    def _open(self) -> TextIOWrapper:
        # Not for everybody: it names addresses, and keys by their fingerprints.
        return cast(
            "TextIOWrapper", open(self.baseFilename, self.mode, encoding=self.encoding, opener=_for_owner)
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Writes."""
        self._failed = False
        try:
            super().emit(record)
        except OSError:  # its directory is gone
            self.handleError(record)
        self._broken = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Writes. A full disk is no reason to end; it is told once, until a line is written again."""
        self._failed = True
        if not self._broken:
            log.error("the audit log cannot be written: %s", sys.exc_info()[1])


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def audit_file(path: Path) -> logging.Handler:
    """Where changes are kept. Raises ConfigError when it cannot be opened."""
    try:
        return _AuditFile(path)
    except OSError as error:
        raise ConfigError(f"audit_log: {path} cannot be written: {error.strerror}") from None


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, the fields, and an exception's text."""

    def format(self, record: logging.LogRecord) -> str:
        """Reads."""
        line = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            line.setdefault(name, value)
        text = _exception_text(self, record)
        if text:
            line["exception"] = text
        encoded = msgspec.json.encode(line, enc_hook=str).decode()
        if encoded.isprintable():
            return encoded
        # JSON escapes the line feed, but there are more characters at which readers end a line.
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in encoded)


class ConsoleFormatter(logging.Formatter):
    """Aligned for people: local time, level, message, `name=value`; an exception below."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Reads."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        when = f"{clock}.{int(record.msecs):03d}"
        level = f"{record.levelname:<7}"
        message = _one_line(record.getMessage())
        fields = "  ".join(f"{name}={_shown(value)}" for name, value in fields_of(record).items())
        if self._colour:
            when = f"{_DIM}{when}{_RESET}"
            level = f"{_COLOURS.get(record.levelname, _COLOURS['ERROR'])}{level}{_RESET}"
            fields = f"{_DIM}{fields}{_RESET}" if fields else ""
        line = f"{when}  {level}  {message:<{_MESSAGE_WIDTH}}  {fields}".rstrip()
        text = _exception_text(self, record)
        return f"{line}\n{text}" if text else line


def _exception_text(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if record.exc_info and not record.exc_text:
        return formatter.formatException(record.exc_info)
    return record.exc_text


def _utc(created: float) -> str:
    """RFC 3339 with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(created))}.{int(created % 1 * 1000):03d}Z"


def _shown(value: object) -> str:
    """A field's value as one word; quoted when it is not one."""
    if isinstance(value, (list, tuple)):
        return ",".join(_shown(item) for item in value) or "-"
    if value is None:
        return "-"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not any(char in ' "=' for char in text):
        return text
    return msgspec.json.encode(text).decode() if text.isprintable() else _one_line(repr(text))


def _one_line(text: str) -> str:
    """Control characters escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
