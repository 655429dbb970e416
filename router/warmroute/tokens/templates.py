"""Chat templates, rendered as `transformers` renders them.

A template is a program that the model's publisher wrote. It runs in jinja2's sandbox, with the settings, the
extensions and the functions that templates are written for; what it raises is a refusal of the request, which
is the engine's to tell. How engines hand messages to it differs: as plain strings, or as lists of parts for a
template that goes through them (`content_format`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from warmroute.tokens.asked import Message
from warmroute.tokens.fields import Fields

# Texts in a template that are shorter than this, or one word, are names of roles and fields. What is looked
# for in a message's text is a tag.
_CUE_CHARS_MIN: Final = 3

# What a template may look for in messages; published ones have five.
_CUES_MAX: Final = 32

# Forms in which a template writes the date; published ones have one.
_CLOCKS_MAX: Final = 8


class NotRendered(Exception):
    """The template refuses the conversation, or fails at it."""


class Template:
    """State: the forms of dates that it was seen to write; else it is not to be written.

    Raises ValueError for a source that is no template.
    """

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """`special` are the special tokens by their names in templates, such as `bos_token`."""
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.filters["replace"] = _replace
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = self._now
        fields = Fields(environment.getattr, environment.getitem, environment.undefined)
        environment.getattr = fields.attribute  # type: ignore[method-assign]
        environment.getitem = fields.item  # type: ignore[method-assign]
        self.source = source
        self._special = dict(special)
        self._clocks: dict[str, None] = {}
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ValueError(str(error)) from error
        self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
        """What it reads of what it is given."""
        self.goes_through_parts = next(_content_loops(tree), None) is not None
        """It wants a message's content as a list of parts (vLLM's way to tell)."""
        self.names_parts = _names_parts(source, tree)
        """The same, as SGLang tells it."""
        self.knows_developers = '"developer"' in source or "'developer'" in source
        self.cues = _cues(tree)
        """Texts that it looks for in messages: what it makes of a message depends on whether they are
        there."""

    def render(self, messages: list[Message], given: Mapping[str, Any]) -> str:
        """Reads. The conversation as text. Raises NotRendered."""
        try:
            return self._template.render({**self._special, **given, "messages": messages})
        except Exception as error:
            raise NotRendered(str(error)) from error

    def clock(self) -> tuple[str, ...]:
        """Reads. What it would write of dates now: other prompts from tomorrow on."""
        if not self._clocks:
            return ()
        now = datetime.now()  # noqa: DTZ005 -- as templates do: local time
        return tuple(map(now.strftime, self._clocks))

    def _now(self, form: str) -> str:
        if len(self._clocks) < _CLOCKS_MAX:
            self._clocks[form] = None
        return datetime.now().strftime(form)  # noqa: DTZ005


class Templates:
    """A model's templates: one for all, or one by name for requests with tools. Not to be written."""

    def __init__(self, default: Template | None, with_tools: Template | None = None) -> None:
        self._default = default
        self._with_tools = with_tools

    def choose(self, *, with_tools: bool) -> Template | None:
        """Reads. As `transformers` does."""
        return self._with_tools if with_tools and self._with_tools is not None else self._default


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`: what the model is to be trained on, which changes nothing of the text."""

    tags = {"generation"}  # noqa: RUF012 -- as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """The block, as a call that gives what stands in it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    """jinja2's, which makes another text first: one that notices who looks into it (`learning`) is asked."""
    text: str = value if isinstance(value, str) else str(value)
    return text.replace(str(old), str(new), -1 if count is None else count)


# --- what a template's tree tells -----------------------------------------------------------------------


def _cues(tree: jinja2.nodes.Template) -> tuple[str, ...]:
    """Texts that are compared with something, or looked for in it."""
    found: dict[str, None] = {}
    for node in (
        *tree.find_all(jinja2.nodes.Compare),
        *(call for call in tree.find_all(jinja2.nodes.Call) if isinstance(call.node, jinja2.nodes.Getattr)),
    ):
        for const in node.find_all(jinja2.nodes.Const):
            text = const.value
            if isinstance(text, str) and len(text) >= _CUE_CHARS_MIN and not text.replace("_", "").isalnum():
                found[text] = None
    return tuple(found)[:_CUES_MAX]


def _is_name(node: jinja2.nodes.Node, name: str) -> bool:
    return isinstance(node, jinja2.nodes.Name) and node.ctx == "load" and node.name == name


def _is_of(node: jinja2.nodes.Node | None, name: str, key: str | None = None) -> bool:
    """Whether the node is the variable, or its `key`, or either behind filters, tests and slices."""
    if isinstance(node, (jinja2.nodes.Filter, jinja2.nodes.Test)):
        return _is_of(node.node, name, key)
    if isinstance(node, jinja2.nodes.Getitem) and isinstance(node.arg, jinja2.nodes.Slice):
        return _is_of(node.node, name, key)
    if node is None:
        return False
    if key is None:
        return _is_name(node, name)
    if isinstance(node, jinja2.nodes.Getitem):
        return (
            _is_name(node.node, name)
            and isinstance(node.arg, jinja2.nodes.Const)
            and bool(node.arg.value == key)
        )
    return isinstance(node, jinja2.nodes.Getattr) and _is_name(node.node, name) and node.attr == key


def _other_names(tree: jinja2.nodes.Template, name: str) -> list[str]:
    """The variable, and those that it is assigned to."""
    names = [name]
    for one in names:
        for assigned in tree.find_all(jinja2.nodes.Assign):
            target = assigned.target
            if (
                isinstance(target, jinja2.nodes.Name)
                and target.name not in names
                and _is_of(assigned.node, one)
            ):
                names.append(target.name)
    return names


def _content_loops(tree: jinja2.nodes.Template) -> Iterator[jinja2.nodes.For]:
    """Loops over a message's content, or over what a macro is given of it."""
    loops = list(tree.find_all(jinja2.nodes.For))
    lists = _other_names(tree, "messages")
    messages = [
        loop.target.name
        for loop in loops
        if isinstance(loop.target, jinja2.nodes.Name) and any(_is_of(loop.iter, name) for name in lists)
    ]

    def is_content(node: jinja2.nodes.Node) -> bool:
        return any(_is_of(node, name, "content") for name in messages)

    in_macros: dict[int, set[str]] = {}
    for macro in tree.find_all(jinja2.nodes.Macro):
        names = [argument.name for argument in macro.args]
        given: set[str] = set()
        for call in tree.find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name == macro.name:
                given.update(name for name, value in zip(names, call.args, strict=False) if is_content(value))
                given.update(word.key for word in call.kwargs if word.key in names and is_content(word.value))
        for loop in macro.find_all(jinja2.nodes.For):
            in_macros.setdefault(id(loop), set()).update(given)
    for loop in loops:
        macro_names = in_macros.get(id(loop))
        over = loop.iter.name if isinstance(loop.iter, jinja2.nodes.Name) else ""
        if (
            is_content(loop.iter)
            or over in (macro_names or ())
            or (macro_names is None and over == "content")
        ):
            yield loop


def _names_parts(source: str, tree: jinja2.nodes.Template) -> bool:
    return any(word in source for word in ("image", "audio", "video", "vision")) or any(
        _is_of(loop.iter, name, "content")
        for loop in tree.find_all(jinja2.nodes.For)
        for name in ("message", "msg", "m")
    )
