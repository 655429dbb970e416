"""One prompt to be told, by its kind: a chat, a text, ids. Made on the loop, run there or in a thread."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from warmroute.dialects import Buffer
from warmroute.tokens import by_engine
from warmroute.tokens.asked import Chat, Text, Untold, Why, read_messages
from warmroute.tokens.memory import Place
from warmroute.tokens.rules import Rules
from warmroute.tokens.told import Told, told_of_numbers

if TYPE_CHECKING:
    from warmroute.tokens.model import TokenModel

# The library that engines use takes this much longer than the fast one.
_SLOW_FACTOR: Final = 16

# JSON of a token id, comma included: as little as is told of it in any vocabulary.
_ID_BYTES: Final = 5


class TooMuch(Exception):
    """It turned out to be more than is done at once."""


class Job:
    """`went_on`: after a run, whether it went on from an earlier prompt's end; else not to be written."""

    def __init__(self, model: TokenModel | None, sizes: Sequence[int], root: int, size: int) -> None:
        self.model = model
        """None: the engine has to be asked."""
        self.sizes = sizes
        self.root = root
        self.bytes = size
        """New text, in bytes of work with the fast library."""
        self.went_on = False

    @abstractmethod
    def run(self, inline_bytes: int, *, slowly: bool) -> Told:
        """Writes. Raises Untold, and TooMuch where it would be more than so many bytes; not if `slowly`."""

    @abstractmethod
    def question(self, model: str) -> bytes:
        """Reads. What to ask an engine. Raises Untold."""

    def answered(self, answer: bytes) -> Told:
        """Reads. What an engine's answer says; in a thread. Raises Untold."""
        return told_of_numbers(by_engine.read_answer(answer), self.sizes, self.root, slowly=True)


class ChatJob(Job):
    """A chat, with the place that it may go on from."""

    def __init__(
        self, model: TokenModel | None, sizes: Sequence[int], root: int, chat: Chat, material: Buffer,
        messages: Buffer, rules: Rules, place: Place | None,
    ) -> None:  # fmt: skip
        """`material`: tools and messages, `messages`: these alone, as they stand in the body."""
        self.cut = last_end(material)
        new = len(material) - (0 if place is None else place.cut)
        super().__init__(model, sizes, root, new * _factor(model))
        self.place = place
        self._chat = chat
        self._material = material
        self._messages = messages
        self._rules = rules

    def run(self, inline_bytes: int, *, slowly: bool) -> Told:
        """As `Job`."""
        place, model = self.place, self.model
        assert model is not None
        if place is not None:
            told = model.onwards(
                place,
                self._chat,
                self._added(place),
                self._rules,
                self.sizes,
                self.root,
                self.cut,
                slowly=slowly,
            )
            if told is not None:
                self.went_on = True
                return told
            if not slowly and len(self._material) * _factor(model) > inline_bytes:
                raise TooMuch
        return self.whole(slowly=slowly)

    def whole(self, *, slowly: bool) -> Told:
        """Reads. The same from its beginning. Raises Untold."""
        assert self.model is not None
        messages = read_messages(self._messages)
        return self.model.whole(
            self._chat, messages, self._rules, self.sizes, self.root, slowly=slowly, cut=self.cut
        )

    def question(self, model: str) -> bytes:
        """As `Job`."""
        return by_engine.chat_question(model, self._chat, self._messages, self._rules)

    def _added(self, place: Place) -> list[dict[str, object]]:
        """The messages behind the place. Raises Untold."""
        rest = bytes(self._material[place.cut :]).lstrip()
        if rest[:1] != b",":
            raise Untold(Why.ODD)
        return read_messages(b"[" + rest[1:])


class TextJob(Job):
    """A prompt that is text."""

    def __init__(self, model: TokenModel | None, sizes: Sequence[int], root: int, text: Text) -> None:
        super().__init__(model, sizes, root, len(text.text) * _factor(model))
        self._text = text

    def run(self, inline_bytes: int, *, slowly: bool) -> Told:
        """As `Job`."""
        assert self.model is not None
        return self.model.text(self._text, self.sizes, self.root, slowly=slowly)

    def question(self, model: str) -> bytes:
        """As `Job`."""
        return by_engine.text_question(model, self._text)


class IdsJob(Job):
    """A prompt that came as token ids: no tokenizer is needed."""

    def __init__(self, sizes: Sequence[int], root: int, ids: list[int]) -> None:
        super().__init__(None, sizes, root, len(ids) * _ID_BYTES)
        self._ids = ids

    def run(self, inline_bytes: int, *, slowly: bool) -> Told:
        """As `Job`."""
        return told_of_numbers(self._ids, self.sizes, self.root, slowly=slowly)

    def question(self, model: str) -> bytes:
        """There is none."""
        raise Untold(Why.NO_TOKENIZER)


def last_end(material: Buffer) -> int:
    """Where the last message of a chat's material ends; 0: that cannot be told."""
    end = len(material)
    near = bytes(material[max(0, end - 256) :])
    inner = near.rstrip()
    if not inner.endswith(b"]"):
        return 0
    inner = inner[:-1].rstrip()
    return end - len(near) + len(inner) if inner.endswith(b"}") else 0


def _factor(model: TokenModel | None) -> int:
    return 1 if model is not None and model.vocabulary.quick else _SLOW_FACTOR
