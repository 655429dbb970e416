"""`docs/walkthrough.py`: what makes a page with commands stale, and what it shows of their output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WALK = Path(__file__).parents[2] / "docs" / "walkthrough.py"


def walk(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WALK), str(page), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("commands", "printed", "complaint"),
    [
        ("echo one; echo two", "one\ntwo", None),
        ("echo 'simulated in 3 s'; echo one", "one", None),
        ("echo one; echo two", "one\n2", "+two"),
        ("echo one; false; echo two", "one", "exit code 1 in\necho one; false"),
        ("echo one; exit 0", "one", "the shell ended early"),
        ("sleep 600 & echo one", "one", "left a process behind"),
    ],
)
def test_a_page_is_stale_when_a_command_fails_prints_something_else_or_goes_on_running(
    commands: str, printed: str, complaint: str | None, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{commands}\n```\n\n<!-- prints -->\n```\n{printed}\n```\n\n```sh\ntrue\n```\n")
    done = walk(page, "--check")
    assert (complaint or "") in done.stderr
    assert (done.returncode == 0) == (complaint is None)


def test_an_excerpt_shows_that_something_was_left_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```sh\nseq 1 9\n```\n<!-- prints from "3" until "5" -->\n```\n…\n3\n4\n…\n```\n', encoding="utf-8"
    )
    assert walk(page, "--check").returncode == 0


def test_rough_numbers_may_differ_and_words_may_not(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for printed, stale in (("took  3.5 ms ██", 0), ("took 12 s", 0), ("needed 3 ms", 1)):
        page.write_text(f"```sh\necho 'took 7 ms █▏'\n```\n<!-- prints roughly -->\n```\n{printed}\n```\n")
        assert walk(page, "--check").returncode == stale


def test_where_one_block_is_stale_all_are_of_the_same_run_afterwards(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = (
        "```sh\necho 2 ms\n```\n<!-- prints roughly -->\n```\n{} ms\n```\n<!-- prints -->\n```\n{} ms\n```\n"
    )
    for before, after in (((1, 2), (1, 2)), ((1, 1), (2, 2))):
        page.write_text(text.format(*before))
        assert walk(page).returncode == 0
        assert page.read_text() == text.format(*after)


def test_what_is_printed_once_is_an_example_that_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "```sh\necho now\n```\n<!-- prints once -->\n```\n{}```\n"
    for before, after in (("", "now\n"), ("then\n", "then\n")):
        page.write_text(text.format(before))
        assert walk(page).returncode == 0
        assert page.read_text() == text.format(after)


def test_ports_of_a_page_are_replaced_while_it_runs_and_not_in_what_it_shows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- ports 9001 9002 30000 -->\n"
        "```sh\necho 9001 9002 30000\ntest $((9001 + 1)) = 9002\ntest $((9001 - 1 + 1)) -ge 20000\n```\n"
        "<!-- prints -->\n```\n9001 9002 30000\n```\n"
    )
    done = walk(page, "--check")
    assert done.returncode == 0, done.stderr


def test_without_check_the_page_has_afterwards_what_was_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\necho one\n```\n\n<!-- prints -->\n```\n```\n\nThe end.\n")
    assert walk(page).returncode == 0
    assert (
        page.read_text() == "# Page\n\n```sh\necho one\n```\n\n<!-- prints -->\n```\none\n```\n\nThe end.\n"
    )
    assert walk(page, "--check").returncode == 0
