"""When a thing pays and when it hurts, that each is taken away once, and that the page tells all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import ablations
from ablations_lib.learning import beliefs
from ablations_lib.page import page, summary
from ablations_lib.results import ALL, SCHEMA, Ablations, BeliefFound, BeliefResult, decoded
from ablations_lib.study import Study, study_in, study_of
from ablations_lib.taken import LEARNED, TERMS, Taken, terms_here, unlearned
from ablations_lib.verdicts import Values, Verdict, Word, of_learned, of_terms, standings, verdict
from beliefs_lib.levels import CAPACITIES, PRICES, TRUE, capacity
from beliefs_lib.played import Task, config_of
from judged import MADE, cell, result
from routing_lib.agenda import Agenda
from routing_lib.factors import Cell, Place, TraceFactor, traces
from routing_lib.orders import order_of
from routing_lib.plan import OURS, Plan, plan_of
from routing_lib.results import CellFound, encoded
from routing_lib.store import Store
from routing_lib.traces import made_up
from routing_lib.verdicts import Metric
from warmroute_policies.config import BalancerConfig, CacheAwareConfig, parameters
from warmroute_policies.plugins import load_policy
from warmroute_policies.spelling import parse_policy
from warmroute_simulator.report.model import Slo

DOCS = Path(__file__).parents[2] / "docs"
KNOWN = traces(Path())
RENT, MEMORY = (term for term in TERMS if term.name in ("rent", "memory"))

PLACE = Place("shared_prefix", "8", 250_000)
TINY = Plan(
    mode="quick",
    traces={
        PLACE.trace: TraceFactor(
            "a few customers",
            Slo(ttft_s=0.25),
            "why not",
            lambda _: made_up("shared_prefix:groups=9,prefix_tokens=2000", 240),
        )
    },
    cells=(Cell(PLACE, 0.8),),
    policies=(OURS, "random"),
    references=(OURS,),
    seeds=(0, 1),
    capacity_at=(PLACE,),
    capacity_seeds=(0, 1),
)


def judged(without: Sequence[float], whole: Sequence[float], *, answered: tuple[float, float]) -> Verdict:
    sides = (Values(seconds, 1 - share) for seconds, share in zip((without, whole), answered, strict=True))
    return verdict(RENT, Metric.MEAN, "somewhere", *sides)


def study(cells: Sequence[CellFound], learned: Mapping[str, Sequence[float]]) -> Ablations:
    """As if it had been found. `learned`: mean TTFT by seed, under the one belief that there is."""
    of_learned = {name: BeliefResult(list(values), 0.0) for name, values in learned.items()}
    return Ablations(
        schema=SCHEMA,
        mode="published",
        made=MADE,
        seeds=[0, 1, 2],
        absent=[],
        terms=[RENT, MEMORY],
        unknown=[],
        learned=list(LEARNED),
        cells=list(cells),
        beliefs=[BeliefFound("rag", "8", 1_000_000, 1.6, "capacity ×4", of_learned)],
    )


def rows(text: str) -> list[list[str]]:
    """Of all tables, with their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines]


LEVEL: list[float] = [1.0, 1.0, 1.0]
STUDY = study(
    [
        cell({OURS: LEVEL, RENT.text: [1.2, 1.3, 1.1], MEMORY.text: LEVEL}, "rag", 0.3),
        cell({OURS: LEVEL, RENT.text: result([0.7, 0.9, 0.8], [10, 10, 10]), MEMORY.text: LEVEL}, "azure"),
        cell(
            {OURS: LEVEL, RENT.text: [0.9, 1.3, 1.1], MEMORY.text: result(LEVEL, unanswered=0.2)}, "mooncake"
        ),
    ],
    {ALL: LEVEL, "capacity_feedback": [4.0, 6.0, 5.0], "learn_prices": [0.5, 0.5, 0.5]},
)


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "word"),
    [
        ([1.2, 1.3, 1.1], Word.PAYS),
        ([1.01, 1.01, 1.01], Word.PAYS),
        ([1.009, 1.009, 1.009], Word.SAME),
        ([0.99, 1.5, 1.5], Word.SAME),
        ([1.0, 1.5, 1.5], Word.SAME),
        ([1.0, 1.0, 1.0], Word.SAME),
        ([1.01, 0.5, 0.5], Word.SAME),
        ([0.991, 0.991, 0.991], Word.SAME),
        ([0.99, 0.99, 0.99], Word.HURTS),
        ([0.7, 0.9, 0.8], Word.HURTS),
    ],
)
def test_a_thing_pays_or_hurts_where_all_of_the_interval_and_a_hundredth_say_so(
    without: list[float], word: Word
) -> None:
    assert judged(without, LEVEL, answered=(1.0, 1.0)).word is word


def test_seeds_are_paired() -> None:
    found = judged([1.1, 11.0, 110.0], [1.0, 10.0, 100.0], answered=(1.0, 1.0))
    assert tuple(found.ratio) == pytest.approx((1.1, 1.1, 1.1))
    assert found.word is Word.PAYS


@pytest.mark.parametrize(
    ("answered", "word", "by_answers"),
    [
        ((0.98, 1.0), Word.PAYS, True),
        ((1.0, 0.98), Word.HURTS, True),
        ((0.995, 1.0), Word.HURTS, False),
        ((0.8, 0.8), Word.HURTS, False),
    ],
)
def test_who_answers_less_is_worse_however_fast(
    answered: tuple[float, float], word: Word, by_answers: bool
) -> None:
    found = judged([0.5, 0.5], [1.0, 1.0], answered=answered)
    assert (found.word, found.by_answers) == (word, by_answers)


def test_standings_count_all_cells_and_tell_the_extremes_sure_or_not() -> None:
    rent, memory = standings(of_terms(STUDY, Metric.MEAN))
    assert rent.counts == {Word.PAYS: 1, Word.HURTS: 1, Word.SAME: 1}
    assert rent.gain is not None
    assert rent.harm is not None
    assert (rent.gain.ratio.value, rent.harm.ratio.value) == pytest.approx((1.2, 0.8))
    assert rent.harm.where == "azure, 80 %, 8 workers, 1M"
    assert rent.mean_ratio == pytest.approx((1.2 * 0.8 * 1.1) ** (1 / 3))
    assert (memory.gain, memory.harm, memory.mean_ratio) == (None, None, 1.0)
    assert memory.counts == {Word.PAYS: 1, Word.HURTS: 0, Word.SAME: 2}


def test_each_metric_has_verdicts_of_its_own() -> None:
    mean, slow = (of_terms(STUDY, metric)[1] for metric in Metric)
    assert (mean.where, mean.word) == (slow.where, Word.HURTS)
    assert slow.word is Word.SAME


def test_what_is_learned_stands_beside_all_that_is() -> None:
    capacities, prices = of_learned(STUDY)
    assert (capacities.where, capacities.word) == ("rag, capacity ×4", Word.PAYS)
    assert (capacities.ratio.value, prices.ratio.value) == pytest.approx((5.0, 0.5))


# --- what is taken away ---------------------------------------------------------------------------


def test_every_parameter_of_the_price_is_taken_away_once() -> None:
    taken = [name for term in TERMS for name in parse_policy(term.text).params]
    assert len(taken) == len(set(taken)) == len(TERMS)
    assert set(parameters(CacheAwareConfig)) <= set(taken)


def test_terms_that_this_version_has_can_be_made_and_the_others_are_left_out() -> None:
    here = terms_here()
    for term in here:
        policy = parse_policy(term.text)
        assert load_policy(policy.name, policy.params).name == OURS
    assert {name for term in here for name in parse_policy(term.text).params} == set(
        parameters(CacheAwareConfig)
    )
    assert terms_here([Taken("a wish", "nothing", f"{OURS}:no_such_price=0"), RENT]) == [RENT]


@pytest.mark.parametrize("learned", LEARNED)
def test_what_is_learned_is_on_and_its_switch_alone_is_turned_off(learned: Taken) -> None:
    source = TINY.traces[PLACE.trace].source(8)
    variants = (capacity(4.0), unlearned(capacity(4.0), learned))
    whole, without = (config_of(Task(PLACE, source, None, one, 0), source.read(0)) for one in variants)
    assert parameters(BalancerConfig)[learned.text] is True
    assert getattr(whole.balancer, learned.text) is True
    differ = [
        name
        for name in parameters(BalancerConfig)
        if getattr(whole.balancer, name) != getattr(without.balancer, name)
    ]
    assert differ == [learned.text]
    assert getattr(without.balancer, learned.text) is False
    assert replace(without, balancer=whole.balancer) == whole


def test_beliefs_are_the_true_ones_and_the_ends_of_each_scale() -> None:
    found = beliefs()
    assert found[0] == TRUE
    assert {one.capacity_error for one in found} == {1.0, CAPACITIES[0], CAPACITIES[-1]}
    assert {one.price_error for one in found} == {1.0, *PRICES}
    assert len(found) == 5


# --- the study ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["published", "quick"])
def test_terms_are_played_where_policies_are(mode: str, tmp_path: Path) -> None:
    found = study_of(mode, KNOWN, 2, tmp_path / "runs.jsonl", "now").agenda.plan
    theirs = plan_of(mode, KNOWN)
    assert (found.cells, found.references) == (theirs.cells, theirs.references)
    assert found.seeds == theirs.seeds[:2]
    assert found.policies == (OURS, *(term.text for term in terms_here()))
    assert set(found.places) <= set(theirs.places)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    state = tmp_path_factory.mktemp("played") / "runs.jsonl"
    found = study_in(TINY, state, "these sources")
    found.play(processes=1)
    return found, state


def test_what_was_played_is_not_played_again_nor_are_runs_of_the_routing_study(
    played: tuple[Study, Path],
) -> None:
    _, state = played
    again = study_in(TINY, state, "these sources")
    assert (again.agenda.orders(), again.learning.tasks()) == ([], [])
    routing = Agenda(replace(TINY, capacity_at=()), Store(state, "these sources"))
    assert {order.key.policy for order in routing.orders()} == {"random"}


def test_an_interrupted_study_goes_on_and_other_sources_begin_anew(played: tuple[Study, Path]) -> None:
    whole, state = played
    file = state.with_name("beliefs.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    cut = file.parent / "cut"
    cut.mkdir()
    (cut / file.name).write_bytes(b"".join(lines[:7]) + lines[7][:30])
    asked = study_in(TINY, cut / state.name, "these sources").learning.tasks()
    assert len(asked) == len(lines) - 7 == len(whole.learning.used()) - 7
    assert len(study_in(TINY, state, "others").learning.tasks()) == len(lines)


def test_a_tiny_study_writes_its_results_and_its_page_and_renders_it_again(
    played: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = played[0].found(Path(), "bench/ablations.py", ["mooncake"])
    results = tmp_path / "ablations.json"
    results.write_bytes(encoded(found))
    ablations.write_page(found, results)
    text = results.with_suffix(".md").read_text(encoding="utf-8")
    assert decoded(results.read_bytes()) == found
    assert "shared_prefix, 80 %, 8 workers, 250k" in text
    assert "shared_prefix, capacity ×¼" in text
    assert "their files were not there: mooncake" in text
    results.with_suffix(".md").unlink()
    monkeypatch.setattr("sys.argv", ["ablations.py", "--render", "--json", str(results)])
    assert ablations.main() == 0
    assert results.with_suffix(".md").read_text(encoding="utf-8") == text


def test_figures_are_those_of_the_runs(played: tuple[Study, Path]) -> None:
    found = played[0].found(Path(), "bench/ablations.py", [])
    (one,) = found.cells
    store = played[0].agenda.store
    for policy in (OURS, RENT.text):
        order = order_of(TINY.traces[PLACE.trace], PLACE, one.load, policy, 1)
        run = store.get(order.key)
        assert run is not None
        assert one.results[policy].ttft_mean_s[1] == pytest.approx(run.ttft_mean_s, rel=1e-3)
    assert [belief.belief for belief in found.beliefs] == [belief.name for belief in beliefs()]
    assert all(list(one.results) == [ALL, *(each.text for each in LEARNED)] for one in found.beliefs)


# --- the page -------------------------------------------------------------------------------------


def test_the_page_in_the_repository_is_that_of_its_results() -> None:
    found = decoded((DOCS / "ablations.json").read_bytes())
    assert (DOCS / "ablations.md").read_text(encoding="utf-8") == page(found), (
        "run bench/ablations.py --render"
    )


def test_a_row_counts_verdicts_and_tells_gain_harm_and_mean() -> None:
    assert rows(summary(of_terms(STUDY, Metric.MEAN)))[1] == [
        "rent",
        "1.200 (1.100–1.300) in rag, 30 %, 8 workers, 1M",
        "0.800 (0.700–0.900) in azure, 80 %, 8 workers, 1M",
        *("1", "1", "1", "1.018"),
    ]


def test_every_cell_in_which_something_hurts_is_listed_with_its_figures() -> None:
    text = page(STUDY)
    listed = rows(text[text.index("## Where something hurts") : text.index("## Every cell")])
    assert listed[1:] == [
        ["prices", "rag, capacity ×4", "mean TTFT", "0.500 (0.500–0.500)", "1.00 s", "500 ms"],
        ["rent", "azure, 80 %, 8 workers, 1M", "mean TTFT", "0.800 (0.700–0.900)", "1.00 s", "800 ms"],
    ]


def test_without_harm_the_page_says_that_there_is_none() -> None:
    harmless = study(STUDY.cells[:1], {ALL: LEVEL, "capacity_feedback": LEVEL, "learn_prices": LEVEL})
    assert "There is none." in page(harmless)
    assert "There is none." not in page(STUDY)


def test_every_cell_stands_on_the_page_with_its_verdict() -> None:
    found = rows(page(STUDY))
    assert ["azure, 80 %, 8 workers, 1M", "0.800 **hurts**", "1.000"] in found
    assert ["mooncake, 80 %, 8 workers, 1M", "1.100", "1.000† **pays**"] in found
    assert ["rag, capacity ×4", "5.000 **pays**", "0.500 **hurts**"] in found


def test_what_this_version_does_not_have_is_named() -> None:
    assert "does not have the parameter" not in page(STUDY)
    assert f"parameter: `{MEMORY.text}`." in page(msgspec.structs.replace(STUDY, unknown=[MEMORY]))


def test_a_quick_look_says_on_top_that_it_is_one() -> None:
    quick = page(msgspec.structs.replace(STUDY, mode="quick"))
    assert quick.index("`mode: quick`: a look, no measurement") < quick.index("## Terms")
    assert "mode: quick" not in page(STUDY)


def test_links_lead_somewhere_and_tables_have_as_many_columns_in_every_row() -> None:
    links = re.findall(r"\]\(([^)#]+)", page(STUDY))
    assert links
    assert all((DOCS / link).exists() for link in links)
    widths: dict[int, int] = {}
    table = 0
    for line in page(STUDY).splitlines():
        if not line.startswith("|"):
            table += 1
            continue
        assert widths.setdefault(table, line.count("|")) == line.count("|"), line


def test_results_of_another_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="schema 2, but this version reads 1"):
        decoded(encoded(msgspec.structs.replace(STUDY, schema=2)))
