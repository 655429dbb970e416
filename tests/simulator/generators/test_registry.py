"""Traces by name: the textual form, and what is told of generators that exist."""

from __future__ import annotations

import pytest

from warmroute_policies.errors import ConfigError
from warmroute_simulator.generators.registry import available, generate, parameters_of
from warmroute_simulator.generators.spec import name_and_parameters, split_outside


def test_commas_inside_parentheses_separate_nothing() -> None:
    assert name_and_parameters("chat:turns=lognormal(4,0.8,1,40), zipf_exponent = 1") == (
        "chat",
        {"turns": "lognormal(4,0.8,1,40)", "zipf_exponent": "1"},
    )
    assert name_and_parameters("mix:spec=chat(turns=4,think_s=5)*2+rag") == (
        "mix",
        {"spec": "chat(turns=4,think_s=5)*2+rag"},
    )
    assert name_and_parameters(" uniform ") == ("uniform", {})
    assert name_and_parameters("uniform:") == ("uniform", {})
    assert split_outside("a+(b+c)*2+d", "+") == ["a", "(b+c)*2", "d"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("chat:turns", "expected param=value, not `turns`"),
        ("chat:=4", "expected param=value"),
        ("chat:turns=1,turns=2", "`turns` is given twice"),
        ("chat:turns=lognormal(1,2", "parentheses do not match"),
        ("chat:turns=1)", "parentheses do not match"),
        ("chat:trun=1", "chat has no parameter `trun`; did you mean `turns`"),
        ("chatty", "there is no generator `chatty`; did you mean `chat`"),
        ("", "there is no generator ``"),
        ("chat:turns=x", "chat: `turns`: expected 6000, 200-8000"),
        ("chat:requests=1.5", "chat: `requests` must be a whole number"),
        ("chat:closed_loop=maybe", "chat: `closed_loop` must be true or false"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        generate(spec, 0)


@pytest.mark.parametrize("name", available())
def test_what_is_told_of_a_generator_makes_the_same_trace_when_it_is_written_out(name: str) -> None:
    told = ",".join(f"{row.name}={row.default}" for row in parameters_of(name) if row.default)
    plain, spelled_out = generate(name, 4), generate(f"{name}:{told}", 4)
    assert spelled_out.name == f"{name}:{told}"
    assert plain.prompts == spelled_out.prompts
    assert plain.arrivals_s == spelled_out.arrivals_s
    assert plain.tree.ends == spelled_out.tree.ends


@pytest.mark.parametrize("name", available())
def test_every_generator_and_parameter_is_explained(name: str) -> None:
    assert available()[name]
    rows = parameters_of(name)
    assert {"requests", "duration_s"} <= {row.name for row in rows}
    assert all(row.meaning for row in rows)


def test_parameters_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no generator `x`"):
        parameters_of("x")
