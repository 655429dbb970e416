"""What a template writes for a turn behind the place that it goes on from: filled into a form that was
learned, or rendered behind stand-ins.

Rules kept: what was rendered before the mark must be the same with the new messages and without, else the
turn changes what stood before; several threads may be here at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from warmroute.tokens.asked import Message
from warmroute.tokens.forms import Form
from warmroute.tokens.learning import learn
from warmroute.tokens.memory import Place
from warmroute.tokens.standins import FILLER, MARK, Shape, can_mark, marked, shortened, standins
from warmroute.tokens.templates import NotRendered, Template

# What was rendered before a mark, by the stand-ins: loops of agents have a handful each.
_BEFORE_MAX: Final = 2048

# Turns of different forms, by what is before them and in them; loops of agents have a dozen each.
_TURNS_MAX: Final = 2048

# Learning takes four renderings: not for what comes but once.
_LEARN_AT: Final = 2

# Not yet learned; whoever finds no place here is rendered.
_LESSONS_MAX: Final = 64


class Turn:
    """Turns of one form. State: how often one was rendered, and what was learned."""

    def __init__(self, kept: tuple[Shape, ...] | None, *, marks: bool) -> None:
        self.kept = kept
        """What stands in for all messages, the turn's included; None: nothing may."""
        self.marks = marks
        """Whether a next turn may go on from it."""
        self.seen = 0
        self.form: Form | None = None

    def fill_in(self, place: Place, given: list[Message]) -> tuple[str, int] | None:
        """Reads. What the template writes for a turn's messages, as `Form.write`. None: to be rendered."""
        return None if self.form is None else self.form.write(place.own, place.blanks, given)


class Turns:
    """One model's. State: turns by their form, what stand-ins say, and what is to be learned."""

    def __init__(self) -> None:
        self.lessons: deque[Callable[[], None]] = deque(maxlen=_LESSONS_MAX)
        """Turns that were seen again, for `learn`."""
        self._turns: dict[tuple[object, ...], Turn] = {}
        self._before: dict[tuple[object, ...], str] = {}

    def of(
        self,
        place: Place,
        given: list[Message],
        shapes: tuple[Shape, ...],
        template: Template,
        *,
        answered: bool,
    ) -> Turn:
        """Writes. What is known of turns like this one behind places like this one. `answered`: the last
        message is the assistant's."""
        key = (place.shapes, place.blanks != "", place.options, shapes, answered, _with_arguments(given))
        turn = self._turns.get(key)
        if turn is None:
            kept = shortened((*place.shapes, *shapes))
            marks = kept is not None and can_mark(kept[-1], template.cues) and not answered
            if len(self._turns) >= _TURNS_MAX:
                self._turns.clear()
            turn = self._turns[key] = Turn(kept, marks=marks)
        return turn

    def render(
        self,
        turn: Turn,
        place: Place,
        given: list[Message],
        shapes: tuple[Shape, ...],
        values: dict[str, Any],
        template: Template,
    ) -> tuple[str, int] | None:
        """Writes. What the template writes for a turn's messages, as `Form.write`, by rendering them. A turn
        whose like was seen before is learned. None: not behind stand-ins."""
        with_mark = [*given[:-1], marked(given[-1])] if turn.marks else given
        added = self._rendered(place, place.blanks, with_mark, values, template)
        if added is None:
            return None
        for letters, stood_for in place.own:
            added = added.replace(letters, stood_for)
        end = added.find(MARK) if turn.marks else -1
        if end >= 0:
            added = added[:end] + added[end + len(MARK) :]
        if MARK in added:
            return None
        turn.seen += 1
        if turn.seen == _LEARN_AT:
            self.lessons.append(
                partial(self._learn, turn, place, given, shapes, values, template, (added, end))
            )
        return added, end

    def learn(self) -> None:
        """Writes. Learns the turns that were seen again: some milliseconds, for a thread."""
        while self.lessons:
            self.lessons.popleft()()

    def _learn(
        self,
        turn: Turn,
        place: Place,
        given: list[Message],
        shapes: tuple[Shape, ...],
        values: dict[str, Any],
        template: Template,
        written: tuple[str, int],
    ) -> None:
        form = learn(
            lambda made, blanks: self._rendered(place, blanks, made, values, template),
            given,
            shapes,
            place.own,
            template.cues,
            blanks=place.blanks != "",
            marks=turn.marks,
        )
        if form is not None and form.write(place.own, place.blanks, given) in (None, written):
            turn.form = form

    def _rendered(
        self, place: Place, blanks: str, given: list[Message], values: dict[str, Any], template: Template
    ) -> str | None:
        """What the template writes behind a place; None: it would change what stands before, or repeat it."""
        try:
            text = template.render([*standins(place.shapes, blanks), *given], values)
            before = self._said_before(place, values, template)
        except NotRendered:
            return None
        added = text[len(before) :]
        if not text.startswith(before) or not added.startswith(MARK) or FILLER in added:
            return None
        return added[len(MARK) :]

    def _said_before(self, place: Place, values: dict[str, Any], template: Template) -> str:
        """What stand-ins say up to the mark, with nothing behind them."""
        key = (place.shapes, place.options)
        said = self._before.get(key)
        if said is None:
            text = template.render(standins(place.shapes, place.blanks), values)
            said = text[: text.find(MARK)] if MARK in text else MARK
            if len(self._before) >= _BEFORE_MAX:
                self._before.clear()
            self._before[key] = said
        return said


def _with_arguments(messages: list[Message]) -> tuple[bool, ...]:
    """Of all calls in the messages, whether they have arguments."""
    return tuple(
        [
            bool(call["function"]["arguments"])
            for message in messages
            if message.get("tool_calls")
            for call in message["tool_calls"]
        ]
    )
