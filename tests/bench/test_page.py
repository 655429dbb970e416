"""The page and its plots: current, the same for the same results, and honest about what was lost."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from judged import cell, quality, result
from routing_lib.page import PLOTS, page, pictures
from routing_lib.plan import OURS
from routing_lib.results import Quality, decoded
from routing_lib.summary import BEGIN, END, placed, summary

DOCS = Path(__file__).parents[2] / "docs"

FAST, SLOW, AROUND = [0.100, 0.102, 0.101], [0.200, 0.210, 0.205], [0.095, 0.110, 0.104]
CELLS = [
    cell({OURS: FAST, "lmetric": SLOW, "random": [0.9, 0.8, 0.7]}, "rag", 0.3),
    cell({OURS: SLOW, "lmetric": FAST, "random": [0.9, 0.8, 0.7]}, "rag", 0.95, "32", 250_000),
    cell({OURS: FAST, "lmetric": AROUND, "random": result(FAST, unanswered=0.3)}, "azure", 1.1, "mixed"),
]
STUDY = quality(CELLS)


def rows(text: str) -> list[list[str]]:
    """Of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]


def test_the_page_in_the_repository_is_that_of_its_results() -> None:
    found = decoded((DOCS / "quality.json").read_bytes())
    assert (DOCS / "quality.md").read_text(encoding="utf-8") == page(found), "run bench/routing.py --render"


def test_the_plots_in_the_repository_are_those_of_its_results() -> None:
    found = pictures(decoded((DOCS / "quality.json").read_bytes()))
    here = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / PLOTS).iterdir()}
    assert here == found, "run bench/routing.py --render"


def test_the_readme_tells_the_results_in_the_repository() -> None:
    found = decoded((DOCS / "quality.json").read_bytes())
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert readme == placed(readme, found), "run bench/routing.py --render"


def test_a_summary_replaces_the_former_one_and_nothing_else() -> None:
    text = placed(f"before\n{BEGIN}old\n{END}after\n", STUDY)
    assert text == f"before\n{BEGIN}\n{summary(STUDY)}\n{END}after\n" == placed(text, STUDY)
    assert "by mean TTFT better in 1, level in 1, lost in 1 cells" in text
    with pytest.raises(ValueError, match="must have"):
        placed("no marks", STUDY)


def test_the_page_shows_every_plot_and_links_to_nothing_that_is_not_there() -> None:
    text = page(STUDY)
    links = re.findall(r"\]\(([^)#]+)", text)
    shown = {link.removeprefix(f"{PLOTS}/") for link in links if link.startswith(f"{PLOTS}/")}
    assert shown == set(pictures(STUDY))
    assert all((DOCS / link).exists() for link in links)


def test_a_cell_that_is_lost_is_shown_as_lost() -> None:
    text = page(STUDY)
    assert "- rag, 95 %, 32 workers, 250k: to `lmetric`, ratio 2.03" in text
    (row,) = [row for row in rows(text) if row[:2] == ["95 %, 32 workers, 250k", "mean"]]
    assert row[2] == "**lost**"
    assert row[-2] == "`lmetric`"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mean TTFT, all loads", ["3", "1", "1", "1", "1 (33 %)", "0.99"]),
        ("mean TTFT, 80 % of the knee and more", ["2", "0", "1", "1", "0 (0 %)", "1.41"]),
    ],
)
def test_verdicts_are_counted_for_all_loads_and_for_those_near_the_knee(name: str, counts: list[str]) -> None:
    assert [name, *counts] in rows(page(STUDY))


def test_a_place_without_a_knee_is_not_counted_as_near_it() -> None:
    knees = [msgspec.structs.replace(knee, found=knee.trace != "azure") for knee in STUDY.knees]
    text = page(msgspec.structs.replace(STUDY, knees=knees))
    (row,) = [row for row in rows(text) if row[0] == "mean TTFT, 80 % of the knee and more"]
    assert row[1] == "1"
    assert "1 or more" in text


def test_a_policy_that_leaves_requests_unanswered_is_marked() -> None:
    assert ["`random`", "1.00†, 50 %"] in rows(page(STUDY))


def test_a_quick_look_says_on_top_that_it_is_one() -> None:
    quick = page(quality(CELLS, mode="quick", capacities=False))
    assert quick.index("`mode: quick`: a look, no measurement") < quick.index("## Verdict")
    assert "## Goodput" not in quick
    assert "mode: quick" not in page(STUDY)
    assert "## Goodput" in page(STUDY)


def test_the_goodput_table_tells_the_best_policy_and_what_it_could_not_find() -> None:
    capacities = [
        msgspec.structs.replace(one, load=None, requests_per_s=None, goodput_per_s=None)
        if one.policy == "random"
        else msgspec.structs.replace(one, found=one.trace != "azure")
        for one in STUDY.capacities
    ]
    found = rows(page(msgspec.structs.replace(STUDY, capacities=capacities)))
    assert [f"`{OURS}`", "**100**", "**≥ 100**"] in found
    assert ["`lmetric`", "99.0 (0.99)", "≥ 99.0 (0.99)"] in found
    assert ["`random`", "none", "none"] in found


def test_traces_whose_files_were_not_there_are_named() -> None:
    text = page(msgspec.structs.replace(STUDY, absent=["mooncake", "agentic"]))
    assert "Left out, since their files were not there: mooncake, agentic." in text


@pytest.mark.parametrize("study", [STUDY, quality(CELLS[:1]), quality(CELLS, mode="quick")])
def test_the_same_results_give_the_same_bytes_and_plots_are_well_formed(study: Quality) -> None:
    assert page(study) == page(study)
    assert pictures(study) == pictures(study)
    for name, picture in pictures(study).items():
        root = ElementTree.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert len(picture) < 200_000, name


def test_every_policy_and_cell_has_its_mark_in_the_plot_of_regret() -> None:
    root = ElementTree.fromstring(pictures(STUDY)["regret.svg"])
    assert len(root.findall("{*}circle")) == len(CELLS) * len(STUDY.policies)
    names = {text.text for text in root.findall("{*}text")}
    assert set(STUDY.policies) <= names


def test_tables_have_as_many_columns_in_every_row() -> None:
    widths: dict[int, int] = {}
    table = 0
    for line in page(STUDY).splitlines():
        if not line.startswith("|"):
            table += 1
            continue
        columns = line.count("|")
        assert widths.setdefault(table, columns) == columns, line
