"""The page `docs/replay-before-you-deploy.md`: every command runs, prints what stands below it, and leaves
nothing behind; what the page names exists.

`docs/walkthrough.py` does the running, with free ports in place of the page's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from warmroute.config.settings import FIELDS, flag_of
from warmroute_simulator.cli import COMMANDS
from warmroute_simulator.traces.formats import FORMATS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "replay-before-you-deploy.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))

OTHERS = {
    *("--silent", "--fail", "--output", "--include", "--header", "--data"),  # curl's
    *("--enable-prompt-tokens-details", "--enable-cache-report"),  # engines'
    *("--help", "--config"),
}


def test_every_command_on_the_page_runs_and_prints_what_the_page_says() -> None:
    command = [sys.executable, str(DOCS / "walkthrough.py"), "--check", "replay-before-you-deploy.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_every_command_of_the_simulator() -> None:
    assert {name for name in COMMANDS if f"simulator {name}" not in SHELL} == set()


def test_the_page_lists_every_format_of_traces() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.partition("## 3.")[2].partition("## 4.")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(FORMATS)


def test_the_page_names_no_option_that_does_not_exist() -> None:
    parser = argparse.ArgumentParser(conflict_handler="resolve")
    for name in COMMANDS:
        import_module(f"warmroute_simulator.commands.{name}").add_arguments(parser)
    known = set(re.findall(r"--[a-z-]+", parser.format_help())) | {flag_of(name) for name in FIELDS} | OTHERS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - known == set()


def test_the_pages_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (DOCS / link).exists(), link


def test_nothing_on_the_page_listens_to_other_machines() -> None:
    assert "0.0.0.0" not in SHELL
    assert set(re.findall(r"--host (\S+)", SHELL)) == {"127.0.0.1"}
