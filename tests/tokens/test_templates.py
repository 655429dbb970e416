"""Templates run as `transformers` runs them, in jinja2's sandbox, only quicker."""

from __future__ import annotations

import json
import random
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
import pytest

from tokens.conversations import TOOLS, made_up, user
from tokens.models import SPECIAL
from tokens.oracles import TEMPLATES
from warmroute.tokens.asked import read_messages
from warmroute.tokens.templates import NotRendered, Template, Templates
from warmroute.tokens.vllm_rules import VLLM

SEED = 3


def plain(source: str) -> jinja2.Template:
    """The template in jinja2's own sandbox."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _: "today"
    return environment.from_string(
        source.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_quicker_sandbox_writes_what_jinja2_s_own_writes(name: str) -> None:
    chance = random.Random(SEED)
    ours, theirs = Template(TEMPLATES[name], SPECIAL), plain(TEMPLATES[name])
    written = 0
    for _ in range(10):
        messages = [one for added in made_up(chance, 5, 10) for one in added]
        given = VLLM.messages(read_messages(json.dumps(messages).encode()), ours)
        values = {"tools": TOOLS, "documents": None, "add_generation_prompt": True, "date_string": "today"}
        try:
            expected = theirs.render({**SPECIAL, **values, "messages": given})
        except jinja2.TemplateError:
            with pytest.raises(NotRendered):
                ours.render(given, values)
            continue
        written += 1
        assert ours.render(given, values) == expected, f"seed {SEED}"
    assert written or name in ("turns", "headers", "brackets")


ODD: dict[str, Any] = {
    "key": "k",
    "items": "an entry",
    "_x": "hidden",
    "none": None,
    "text": "a.b",
    "list": [1],
}


@pytest.mark.parametrize(
    "expression",
    [
        "m.key", "m['key']", "m.nobody", "m['nobody'] is defined", "m.items is string", "m['items']",
        "m.none is none", "m.get('key')", "m.keys() | list", "m._x", "m['_x']", "m.text.split('.')[0]",
        "m.text.format(1)", "m.text.__class__", "m.list.append(2)", "m.update({'a': 1})", "m[0]",
        "m.text.nobody is defined", "m.list[0]", "m.nobody.more", "m.__class__", "''.join(['a', m.key])",
        "m.text.upper() + m.text.strip()",
    ],
)  # fmt: skip
def test_what_an_expression_is_worth_is_what_jinja2_s_own_sandbox_says(expression: str) -> None:
    source = (
        "{% set ns = namespace(a=1) %}{% for x in [1] %}{{ "
        + expression
        + " }}{{ loop.first }}{{ ns.a }}{% endfor %}"
    )

    def outcome(render: Any) -> object:
        try:
            return render()
        except (NotRendered, jinja2.TemplateError, TypeError) as error:
            return str(error)

    ours = outcome(lambda: Template(source, {}).render([], {"m": ODD}))
    assert ours == outcome(lambda: plain(source).render({"messages": [], "m": ODD}))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endfor %}", True),
        (
            "{% set all = messages %}{% for m in all[1:] %}{% for p in m.content %}x{% endfor %}{% endfor %}",
            True,
        ),
        (
            "{% for m in messages %}{% set c = m.content %}{% for p in content %}{% endfor %}{% endfor %}",
            True,
        ),
        (
            (
                "{% macro said(c) %}{% for p in c %}x{% endfor %}{% endmacro %}"
                "{% for m in messages %}{{ said(m.content) }}{% endfor %}"
            ),
            True,
        ),
        (
            (
                "{% macro said(c) %}{% for p in c %}x{% endfor %}{% endmacro %}"
                "{% for m in messages %}{{ said(m.role) }}{% endfor %}"
            ),
            False,
        ),
    ],
)
def test_a_template_that_goes_through_parts_is_known(source: str, *, parts: bool) -> None:
    assert Template(source, {}).goes_through_parts is parts


def test_a_template_may_refuse() -> None:
    with pytest.raises(NotRendered, match="no"):
        Template("{{ raise_exception('no') }}", {}).render([user("a")], {})


def test_a_template_may_not_reach_out_of_the_sandbox() -> None:
    for source in ("{{ messages.__class__.__mro__ }}", "{{ messages.append(1) }}"):
        try:
            written = Template(source, {}).render([user("a")], {})
        except NotRendered:
            continue
        assert "object" not in written


def test_what_is_no_template_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match="Expected an expression"):
        Template("{% for %}", {})


def test_dates_that_were_written_are_known() -> None:
    template = Template("{{ strftime_now('%d %b %Y') }}", {})
    assert template.clock() == ()
    written = template.render([], {})
    assert template.clock() == (written,)


def test_the_template_for_tools_is_taken_for_requests_with_tools() -> None:
    one, other = Template("a", {}), Template("b", {})
    assert Templates(one, other).choose(with_tools=True) is other
    assert Templates(one, other).choose(with_tools=False) is one
    assert Templates(one).choose(with_tools=True) is one
    assert Templates(None, other).choose(with_tools=False) is None
