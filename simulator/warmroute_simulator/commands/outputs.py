"""Where results go: a table on the terminal, JSON, rows of requests, a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from warmroute_simulator.report.model import encode
from warmroute_simulator.study.cell import Run, Setup, curves_of


def add_output_arguments(parser: argparse.ArgumentParser, *, rows: bool = False) -> None:
    """`rows`: the command has single requests to tell of."""
    add = parser.add_argument_group("results").add_argument
    add("--json", type=Path, metavar="FILE", help="write the report there")
    add("--html", type=Path, metavar="FILE", help="write one page with plots there")
    if rows:
        add("--csv", type=Path, metavar="FILE", help="write a row for every request there")
    add("--quiet", action="store_true", help="no table on the terminal")


def write_outputs(arguments: argparse.Namespace, run: Run, setup: Setup) -> None:
    """One run on the terminal and in every file that was asked for."""
    if arguments.json is not None:
        arguments.json.write_bytes(encode(run.report))
    if arguments.csv is not None:
        from warmroute_simulator.report.requests_csv import write_requests

        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            write_requests(run.records, file)
    if arguments.html is not None:
        from warmroute_simulator.report.page import Panel, page

        explained = list(run.explanations.values())
        panel = Panel(run.report, curves_of(run, setup), explained)
        arguments.html.write_text(page([panel]), encoding="utf-8")
    if not arguments.quiet:
        from warmroute_simulator.report.table import console_for, show

        show(run.report, console_for())
