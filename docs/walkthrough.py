"""Runs every command on a page and puts what they print below them, or with --check says what is stale (exit
code 1).

    .venv/bin/python docs/walkthrough.py [--check] [PAGE …]

What a page may hold, all in one temporary folder and one shell (`set -eu`), in the order of the page:

    ```sh                              commands, run as they stand
    ```python, first line "# NAME"     a file of that name
    <!-- prints -->                    the block below is what the last commands printed; further:
    <!-- prints from "A" until "B" -->    the lines from the first that begins with A to before the first
                                          that begins with B; "…" stands where something was left out
    <!-- prints roughly … -->          real time goes by in these commands: numbers may differ, words may not,
                                       and the page keeps what it has
    <!-- prints once … -->             what is found hangs on such numbers: an example, kept as it is
    <!-- ports 9001 9002 30000 -->     are replaced by free ones while the commands run, neighbours by
                                       neighbours

Any other block is for reading. Lines with the machine's own times are left out. Every command has to succeed,
and none may leave a process behind. Where one block is stale all are written anew: a page's numbers are those
of one run.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

DOCS: Final = Path(__file__).parent
PAGES: Final = ("replay-before-you-deploy.md",)

LIMIT_S: Final = 240.0
"""Five times what a page takes on two busy cores."""
COLUMNS: Final = "110"
"""About what a reader's browser shows of a block without scrolling."""
_PORTS_FROM: Final = range(20_000, 29_000)
"""Below those that the kernel gives away by itself, so that nobody is given one meanwhile."""
_END_S: Final = 3.0
"""For a process that was told to stop to be gone."""

_BLOCK: Final = re.compile(
    r"(?:^<!-- prints(?: (?P<how>roughly|once))?"
    r'(?: from "(?P<start>[^"]+)")?(?: until "(?P<end>[^"]+)")? -->\n)?'
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PORTS: Final = re.compile(r"^<!-- ports ([\d ]+) -->$", re.MULTILINE)
_NAME: Final = re.compile(r"# (\S+)\n")
_TIMES: Final = ("simulated in ",)
_BARS: Final = "█▉▊▋▌▍▎▏"
_LEFT_OUT: Final = "…"


class WalkError(Exception):
    """The page cannot be followed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    prints: bool
    how: str | None
    start: str | None
    end: str | None
    place: tuple[int, int]
    """Of its text in the page."""


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(
            found["language"],
            found["text"],
            found[0].startswith("<!-- prints"),
            found["how"],
            found["start"],
            found["end"],
            found.span("text"),
        )
        for found in _BLOCK.finditer(page)
    ]


def walked(page: str) -> str:
    """The page with what its commands print now; the same page where that still holds. Raises WalkError."""
    blocks = blocks_of(page)
    printed = run(blocks, _ports_of(page))
    said: list[str] | None = None
    parts: list[str] = []
    last, stale = 0, False
    for block in blocks:
        if block.language == "sh":
            said = printed.pop(0)
        if block.prints:
            if said is None:
                raise WalkError("a block that prints stands before all commands")
            text = shown(said, block)
            stale |= not _still_holds(block, text)
            parts += [page[last : block.place[0]], text]
            last = block.place[1]
    return "".join([*parts, page[last:]]) if stale else page


def _still_holds(block: Block, text: str) -> bool:
    """Whether what the page has says the same as what was printed now."""
    if block.how == "roughly":
        return _skeleton(text) == _skeleton(block.text)
    return text == block.text or (block.how == "once" and bool(block.text))


def shown(printed: Sequence[str], block: Block) -> str:
    """What a block shows of what was printed. Raises WalkError when its first or last line was not."""
    lines = [line for line in printed if not line.startswith(_TIMES)]
    first, end = 0, len(lines)
    if block.start is not None:
        first = _find(lines, block.start, 0)
    if block.end is not None:
        end = _find(lines, block.end, first)
    body = "\n".join(lines[first:end]).strip("\n").split("\n")
    body = [_LEFT_OUT] * (first > 0) + body + [_LEFT_OUT] * (end < len(lines))
    return "\n".join(body) + "\n"


def run(blocks: Sequence[Block], ports: dict[str, str]) -> list[list[str]]:
    """The lines that each block of commands printed, without spaces at their ends. Raises WalkError."""
    commands = [block.text for block in blocks if block.language == "sh"]
    with tempfile.TemporaryDirectory(prefix="warmroute-docs-") as name:
        folder, outputs = Path(name) / "work", Path(name) / "printed"
        folder.mkdir()
        outputs.mkdir()
        script, number = ["set -eu"], 0
        for block in blocks:
            if block.language == "python" and (file := _NAME.match(block.text)):
                (folder / file[1]).write_text(_replaced(block.text, ports), encoding="utf-8")
            elif block.language == "sh":
                script += [f"exec >{outputs / str(number)} 2>&1", _replaced(block.text, ports)]
                number += 1
        code = _shell("\n".join(script), folder)
        # A page shows a folder of the reader's, not the one that it was tried in.
        back = {free: port for port, free in ports.items()} | {str(folder): "/home/you"}
        files = sorted(outputs.iterdir(), key=lambda file: int(file.name))
        printed = [_replaced(file.read_text(encoding="utf-8"), back) for file in files]
        if code or len(printed) < len(commands):
            at = len(printed) - 1
            why = f"exit code {code}" if code else "the shell ended early"
            raise WalkError(f"{why} in\n{commands[at]}\nwhich printed\n{printed[at]}")
    return [[line.rstrip() for line in text.splitlines()] for text in printed]


def _shell(script: str, folder: Path) -> int:
    """The exit code. Whatever was started is gone afterwards. Raises WalkError when it was not by itself."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "COLUMNS": COLUMNS,
    }
    with subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    ) as shell:
        try:
            code = shell.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = 124
        left = code == 0 and not _gone(shell.pid)
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    if left:
        raise WalkError("the page's commands left a process behind")
    return code


def _gone(group: int) -> bool:
    """Whether all processes of the group end."""
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def _ports_of(page: str) -> dict[str, str]:
    """Free ports for those of the page."""
    found = _PORTS.search(page)
    ports = [int(port) for port in found[1].split()] if found else []
    free: dict[str, str] = {}
    chance = Random()
    while ports:
        count = next((n for n in range(1, len(ports)) if ports[n] != ports[0] + n), len(ports))
        base = next(
            base
            for base in iter(lambda: chance.choice(_PORTS_FROM), None)
            if not {str(base + n) for n in range(count)} & set(free.values())
            and all(_is_free(base + n) for n in range(count))
        )
        free |= {str(port): str(base + n) for n, port in enumerate(ports[:count])}
        ports = ports[count:]
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _replaced(text: str, words: dict[str, str]) -> str:
    """Whole numbers and names for others."""
    if not words:
        return text
    return re.sub(rf"(?<!\d)({'|'.join(map(re.escape, words))})(?!\d)", lambda found: words[found[1]], text)


def _find(lines: Sequence[str], words: str, first: int) -> int:
    for number in range(first, len(lines)):
        if lines[number].startswith(words):
            return number
    raise WalkError(f"no line begins with {words!r} in\n" + "\n".join(lines))


def _skeleton(text: str) -> list[str]:
    """Of each line, what stands before its first number or bar."""
    return [" ".join(re.split(rf"[+−±]?\d|[{_BARS}]", line)[0].split()) for line in text.splitlines()]


def main() -> int:
    """Walks through all pages that are named, or all there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a page is stale")
    options = parser.parse_args()
    stale = False
    for name in options.pages:
        path = DOCS / name
        old = path.read_text(encoding="utf-8")
        try:
            new = walked(old)
        except WalkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        if not options.check:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            stale = True
            sides = (old.splitlines(), new.splitlines())
            print(
                "\n".join(difflib.unified_diff(*sides, name, "as printed now", lineterm="")), file=sys.stderr
            )
            print(f"{name} is stale; run `python docs/walkthrough.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
