"""What was learned of a template writes what the template writes, or nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tokens.conversations import Body, call, said, text, tool, user
from tokens.models import BY_ENGINE, SPECIAL, Teller, model
from tokens.oracles import TEMPLATES
from warmroute.tokens.asked import Message, Untold
from warmroute.tokens.forms import Form
from warmroute.tokens.learning import learn
from warmroute.tokens.standins import MARK, marked, shape_of
from warmroute.tokens.templates import Template
from warmroute.tokens.vllm_rules import VLLM

# By what a template does with a text; how many of the made-up texts fit what is learned of it.
LEARNED = {
    "as it is": ("{{ m.content }}", "all"),
    "as it is, behind another": ("{{ '[' + m.role + '] ' + m.content + '\n' }}", "all"),
    "stripped": ("{{ m.content | trim }};", "all"),
    "stripped at its end": ("{{ m.content.rstrip() }}|", "all"),
    "stripped by a macro": ("{% macro it(x) %}{{ x }}{% endmacro %}{{ it(m.content) | trim }}.", "all"),
    "as JSON": ("{{ m.content | tojson }}", "all"),
    "twice": ("{{ m.content }} -- {{ m.content }}", "none"),
    "newlines taken from its beginning": ("{{ m.content.lstrip('\n') }}", "some"),
    "some blanks taken": ("{{ m.content.strip(' \n') }}", "some"),
    "if there is one": ("{% if m.content %}{{ m.content }}{% else %}nothing{% endif %}", "all"),
    "whether it is text": ("{% if m.content is string %}{{ m.content }}{% endif %}", "all"),
    "what is behind a tag": ("{{ m.content.split('</think>')[-1] }}", "all"),
    "unless a tag begins it": (
        "{% if not m.content.startswith('<tool>') %}{{ m.content }}{% endif %}",
        "all",
    ),
    "in capitals": ("{{ m.content | upper }}", "none"),
    "by its length": ("{{ m.content }}{% if m.content | length > 30 %}!{% endif %}", "none"),
    "by its first letter": ("{{ m.content }}{% if m.content[0] == '{' %}!{% endif %}", "none"),
    "by a letter in it": ("{{ m.content }}{% if '{' in m.content %}!{% endif %}", "none"),
    "by its first word": ("{{ m.content }}{% if m.content.startswith('ok') %}!{% endif %}", "none"),
    "with a word for another": ("{{ m.content | replace('router', 'x') }}", "none"),
    "line by line": ("{% for line in m.content.split('\n') %}{{ line }}\n{% endfor %}", "none"),
    "as it is unless it is another": ("{{ m.content if m.content != 'ok.' else '' }}", "none"),
}

CALLS = {
    "arguments as JSON": ("{{ c.function.name }}({{ c.function.arguments | tojson }}){{ c.id }}", True),
    "a call as JSON": ("{{ c | tojson }}", True),
    "its function as JSON, its end cut off": ("{{ (c.function | tojson)[:-1] }}, {{ c.id }}}", True),
    "each argument": ("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }},{% endfor %}", False),
    "the end of an id": ("{{ c.id[-4:] }}", False),
}


def contents(chance: random.Random) -> str:
    around = ("", "", "", "\n", " ", "\n\n ", "\t", "\u00a0\n")
    words = (
        "router",
        "{",
        "ok.",
        "日本",
        '"',
        "\\n",
        "\n\n",
        "don't",
        "<b>",
        "a/b",
        "1.5",
        "\n    return x",
        "ok",
    )
    core = " ".join(chance.choice(words) for _ in range(chance.randrange(1, 12)))
    return chance.choice(around) + core + chance.choice(around)


def learned(template: Template, given: list[Message], *, marks: bool = False) -> Form | None:
    shapes = [shape for one in given if (shape := shape_of(one, template.cues)) is not None]
    return learn(
        lambda made, _: template.render(made, {}), given, shapes, (), template.cues, blanks=False, marks=marks
    )


@pytest.mark.parametrize("kind", LEARNED)
def test_a_form_writes_what_the_template_writes_or_nothing(kind: str) -> None:
    written, fits = LEARNED[kind]
    template = Template("{% for m in messages %}" + written + "{% endfor %}", SPECIAL)
    chance = random.Random(kind)
    form = learned(template, [user("hello"), said("you")])
    count = 0
    for _ in range(200):
        given = [user(contents(chance)), said(contents(chance))]
        said_so = None if form is None else form.write((), "", given)
        if said_so is not None:
            count += 1
            assert said_so == (template.render(given, {}), -1)
    assert (form is not None) == (fits != "none" or kind == "twice")
    assert {"all": count == 200, "some": 0 < count < 200, "none": count in (0, 200)}[fits]


@pytest.mark.parametrize("kind", LEARNED)
def test_a_form_knows_where_the_last_text_ends(kind: str) -> None:
    written, _ = LEARNED[kind]
    template = Template("{% for m in messages %}" + written + "{% endfor %}", SPECIAL)
    chance = random.Random(kind)
    form = learned(template, [user("hello"), said("you")], marks=True)
    for _ in range(100):
        given = [user(contents(chance)), said(contents(chance))]
        told = None if form is None else form.write((), "", given)
        if told is not None:
            with_mark = template.render([given[0], marked(given[1])], {})
            assert with_mark.count(MARK) == 1
            assert (with_mark.replace(MARK, ""), with_mark.index(MARK)) == told


@pytest.mark.parametrize("kind", CALLS)
def test_calls_are_written_as_the_template_writes_them(kind: str) -> None:
    written, is_learned = CALLS[kind]
    source = "{% for m in messages %}{% for c in m.tool_calls %}" + written + "{% endfor %}{% endfor %}"
    template = Template(source, SPECIAL)
    chance = random.Random(kind)

    def made() -> list[Message]:
        arguments = {
            contents(chance): contents(chance),
            "n": chance.random(),
            "deep": [{"a": None}, 1e3, True],
        }
        number = chance.randrange(10_000)
        return VLLM.messages([said("", tool_calls=[call("run", json.dumps(arguments), number)])], template)

    form = learned(template, made())
    assert (form is not None) == is_learned
    for _ in range(100 if form is not None else 0):
        given = made()
        assert form is not None
        assert form.write((), "", given) == (template.render(given, {}), -1)


def agent(chance: random.Random, turns: int) -> Iterator[Body]:
    """The requests of one conversation, as an agent's loop makes them."""
    messages: list[Any] = [{"role": "system", "content": text(chance, 200)}, user(contents(chance))]
    for number in range(turns):
        yield {"messages": list(messages)}
        if number % 4 == 3:
            messages += [said(contents(chance)), user(contents(chance))]
            continue
        arguments = json.dumps({"path": contents(chance), "n": chance.random()})
        messages += [
            said(contents(chance), tool_calls=[call("read_file", arguments, number)]),
            tool(contents(chance), number),
        ]


@pytest.mark.parametrize("engine", BY_ENGINE)
@pytest.mark.parametrize("template", TEMPLATES)
def test_turns_like_those_before_have_the_tokens_that_they_have_as_a_whole(
    template: str, engine: str
) -> None:
    teller = Teller(model(template), BY_ENGINE[engine])
    told = 0
    for seed in range(12):
        for request in agent(random.Random(seed), 9):
            try:
                mine, whole = teller.tell(request)
            except Untold:
                continue
            told += 1
            assert mine.prompt == whole.prompt, f"seed {seed}"
    rendered = sum(turn.seen for turn in teller.model._turns._turns.values())
    if template in ("chatml", "tagged_tools", "parts", "wide_bars"):
        assert teller.went_on > told * 0.8
        assert rendered < teller.went_on * 0.4


def test_who_looks_for_what_is_in_one_text_is_rendered() -> None:
    """A text with a tag that the template looks for has another shape than one without."""
    teller = Teller(model("tagged_tools"))
    for answer in ("so", "so", "so", "<think>\nhm\n</think>\n\nso", "so", "<think>\nhm\n</think>\n\nso"):
        messages = [{"role": "system", "content": "shared " * 200}, user("a")]
        for turn in range(3):
            told, whole = teller.tell({"messages": messages})
            assert told.prompt == whole.prompt
            messages = [*messages, said(answer), user(f"and {turn}?")]


def test_what_was_learned_is_checked_as_often_as_at_first() -> None:
    of = model("chatml")
    teller = Teller(of)
    for time, checked in (("first", 16), ("second", 0), ("third", 16)):  # learned when seen again
        of.checked = 16
        for request in agent(random.Random(0), 3):
            teller.tell(request)
        assert of.checked == checked, time
