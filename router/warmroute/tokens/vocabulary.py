"""Text to token ids, as a model's `tokenizer.json` says.

Two libraries do it. `tokenizers` is the one that engines use, and what it says is the truth; it takes 1.3 ms
for 4 KB of text. `fastokens` takes 0.02 ms and is used where it gives the same ids for a battery of texts
when the vocabulary is loaded; what engines count of every prompt goes on checking it.

Text is *cut* where its parts have the ids that they have in the whole: before an added token, which every
pipeline splits out first, where a line begins with a letter, and where one ends with a letter or a figure.
All are tried on the battery too, and not done where they change an id. Cuts are what makes a conversation's
next turn cheap (`onwards`), and what keeps a thread from holding the interpreter for the length of a long
prompt.

Rules kept: ids are `bytes`, 4 little-endian bytes each, as in `kv_blocks`; nothing here changes once it is
loaded, so threads may share it.
"""

from __future__ import annotations

import importlib
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import tokenizers

from warmroute_policies.kv_blocks import TOKEN_BYTES, pack_tokens

# A piece of this size holds the interpreter for half a millisecond at most.
PIECE_CHARS: Final = 32 * 1024

# Seeds the battery: the same texts every time.
_SEED: Final = 20

# Texts of the battery. All of it takes 0.2 s.
_TRIES: Final = 160

# The fast library keeps a table of ids, as long as the highest that an added token has. The largest
# vocabularies have a quarter of a million.
_QUICK_ID_MAX: Final = 1 << 21

# Of a thousand reserved tokens a few speak for all.
_ADDED_TRIED_MAX: Final = 24

_WORDS: Final = (
    "the", "Router", "don't", "I'LL", "naïve", "señor", "straße", "日本語", "한국어", "мир", "שלום", "🚀",
    "\U0001f469\u200d\U0001f4bb", "e\u0301", "\u200d", "0", "42", "1234567", "3.14", "0x1F", "def", "return",
    "{", "}", "();", "->", "!=", "</", "<|", "|>", "<", ">", "\\n", "a_b", "CamelCase", "http://x.y/z?q=1",
    "\u00a0", "\ufeff", "\x00", "½", "Ⅷ",
)  # fmt: skip
_GAPS: Final = (" ", " ", " ", "", "\n", "\n\n", "  ", "\t", "\r\n", "    ", " \n ", "\n        ", ", ", ".")


class CannotRead(Exception):
    """A file of the tokenizer is missing or no good; the message says which and why."""


class Vocabulary:
    """Not to be written once it is made. Raises CannotRead."""

    def __init__(self, path: Path, *, bos: str | None = None, eos: str | None = None) -> None:
        """`bos`, `eos`: what is put around every text that is to have special tokens, where the file itself
        does not say; empty: nothing."""
        try:
            written = path.read_text(encoding="utf-8")
            described: Any = json.loads(written)
            self._exact = tokenizers.Tokenizer.from_str(written)
        except OSError as error:
            raise CannotRead(f"{path}: {error.strerror}") from None
        except Exception as error:  # noqa: BLE001 -- the library raises plain exceptions for what it cannot read
            raise CannotRead(f"{path} is not a tokenizer: {error}") from None
        self._exact.no_truncation()
        self._exact.no_padding()
        added = described.get("added_tokens") or []
        self._before = b"" if bos is None else self._id_of(bos)
        self._behind = b"" if eos is None else self._id_of(eos)
        self._wrapped = bos is not None or eos is not None
        self._added, whole = _splitters(added, has_normalizer=described.get("normalizer") is not None)
        contents = [item["content"] for item in added if item["content"]]
        self._letters = "".join(sorted({content[0] for content in contents}))
        """With which added tokens begin."""
        self._overlap = any(
            content[at] in self._letters for content in contents for at in range(1, len(content))
        )
        """One may begin within another: only from the beginning of a text can be told which it is."""
        texts = list(_battery([item["content"] for item in added][:_ADDED_TRIED_MAX]))
        self._quick: Callable[[str], bytes] | None = None
        if all(isinstance(item["id"], int) and item["id"] <= _QUICK_ID_MAX for item in added):
            self._quick = self._quicker(path, texts)
        self.cuts = whole and self._cuts_hold(texts, added)
        """Whether text may be cut before an added token."""
        self._lines = self.cuts and not any("\n" in one for one in contents) and self._lines_hold(texts)
        if not self._wrapped:
            self._find_wrapping(texts)

    @property
    def quick(self) -> bool:
        """Reads. Whether the fast library is used."""
        return self._quick is not None

    def ids(self, text: str) -> bytes:
        """Reads. The ids of a text that is part of a prompt, or has its special tokens in it. Raises
        UnicodeEncodeError for half a letter, which no engine takes either."""
        if self._quick is not None:
            return self._quick(text)
        return self._slow(text)

    def wrapped(self, ids: bytes) -> bytes:
        """Reads. The ids of a whole text, with the special tokens that belong around it."""
        return self._before + ids + self._behind

    @property
    def can_wrap(self) -> bool:
        """Reads. Whether it is known what belongs around a text."""
        return self._wrapped

    def cut_before(self, text: str, end: int) -> int:
        """Reads. A place before `end` where text may be cut, near it if there is one; -1: there is none."""
        at, first = end, max(0, end - _NEAR_CHARS)
        while self._lines and (at := text.rfind("\n", first, at)) > 0:
            if _is_ascii_letter(text, at - 1) or text[at - 1] in _FIGURES:
                return at
            if at + 1 < end and _is_ascii_letter(text, at + 1):
                return at + 1
        return self.added_before(text, end)

    def added_before(self, text: str, end: int) -> int:
        """Reads. The last place before `end` where an added token begins; -1: there is none."""
        if self._added is None:
            return -1
        if self._overlap:
            return max((found.start() for found in self._added.finditer(text, 0, end)), default=-1)
        at, matches = end, self._added.match
        while at > 0:
            at = max([text.rfind(letter, 0, at) for letter in self._letters])
            if at >= 0 and matches(text, at) is not None:
                return at
        return -1

    def begins_cut(self, text: str, at: int) -> bool:
        """Reads. Whether an added token begins there, so that the text may be cut."""
        return self._added is not None and self._added.match(text, at) is not None

    def begins_line(self, text: str) -> bool:
        """Reads. Whether the text, which began where text could be cut, still does whatever follows it."""
        return self._lines and text != "" and (text[0] == "\n" or _is_ascii_letter(text, 0))

    def in_pieces(self, text: str) -> Iterator[bytes]:
        """Reads. The ids of a long text in parts, none of which holds the interpreter for long."""
        at = 0
        for end in self._piece_ends(text):
            piece = text[at:end]
            # The fast library keeps the interpreter to itself, the other one lets others run.
            yield self.ids(piece) if len(piece) <= 2 * PIECE_CHARS else self._slow(piece)
            at = end

    def _piece_ends(self, text: str) -> Iterator[int]:
        begin = last = 0
        if self.cuts and self._added is not None and len(text) > PIECE_CHARS:
            for found in self._added.finditer(text):
                at = found.start()
                if at - begin > PIECE_CHARS:
                    if last > begin:
                        yield from self._line_ends(text, begin, last)
                        begin = last
                    if at - begin > PIECE_CHARS:
                        yield from self._line_ends(text, begin, at)
                        begin = at
                last = at
        yield from self._line_ends(text, begin, len(text))

    def _line_ends(self, text: str, begin: int, end: int) -> Iterator[int]:
        """Ends of pieces up to `end`, which is the last of them."""
        while self._lines and end - begin > PIECE_CHARS:
            found = _LINE.search(text, begin + PIECE_CHARS // 2, end)
            if found is None:
                break
            begin = found.start()
            yield begin
        yield end

    # --- what is found out when it is loaded ----------------------------------------------------------

    def _slow(self, text: str) -> bytes:
        return pack_tokens(self._exact.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def _id_of(self, token: str) -> bytes:
        if not token:
            return b""
        found = self._exact.token_to_id(token)
        if found is None:
            raise CannotRead(f"the vocabulary has no token {token!r}")
        return pack_tokens([found])

    def _quicker(self, path: Path, texts: list[str]) -> Callable[[str], bytes] | None:
        """The fast library, if it is there, can read the file and says the same."""
        try:
            made = importlib.import_module("fastokens").Tokenizer.from_file(str(path))
            made.no_truncation()
            made.no_padding()
            flat = made.encode_batch_flat

            def quick(text: str) -> bytes:
                ids: bytes = flat([text])[0]
                return ids

            same = all(quick(text) == self._slow(text) for text in texts)
        except Exception:  # noqa: BLE001 -- not there, or not for this kind: whatever it raises, the other one does it
            return None
        return quick if same else None

    def _cuts_hold(self, texts: list[str], added: list[dict[str, Any]]) -> bool:
        tokens = [
            item["content"]
            for item in added
            if self._added is not None and self._added.fullmatch(item["content"])
        ][:_ADDED_TRIED_MAX]
        if not tokens:
            return False
        ids, chance = self.ids, random.Random(_SEED)
        for before, behind in zip(texts, reversed(texts), strict=True):
            token = chance.choice(tokens)
            if ids(before) + ids(token + behind) != self._slow(before + token + behind):
                return False
        return True

    def _lines_hold(self, texts: list[str]) -> bool:
        for before, behind in zip(texts, reversed(texts), strict=True):
            for line in ("", " ", "}", "x", "\n", "\t"):
                text = before + line + "\n"
                if self.ids(text) + self.ids("The " + behind) != self._slow(text + "The " + behind):
                    return False
            for last, first in (
                ("x", ""),
                ("Ab", "\n"),
                ("7", "    "),
                ("1234", "\t"),
                (" q", "}"),
                ("'s", " "),
            ):
                one, other = before + last, "\n" + first + behind
                if self.ids(one) + self.ids(other) != self._slow(one + other):
                    return False
        return True

    def _find_wrapping(self, texts: list[str]) -> None:
        """What the file's own post-processor puts around a text, if it is the same around any."""
        around: set[tuple[bytes, bytes]] = set()
        for text in ("a", *texts[:8]):
            bare = self._slow(text)
            whole = pack_tokens(self._exact.encode(text, add_special_tokens=True).ids)
            at = whole.find(bare) if bare else -1
            while at > 0 and at % TOKEN_BYTES:
                at = whole.find(bare, at + 1)
            if at < 0:
                return
            around.add((whole[:at], whole[at + len(bare) :]))
        if len(around) == 1:
            self._before, self._behind = around.pop()
            self._wrapped = True


# Where a line begins with a letter, or ends with a letter or a figure.
_LINE: Final = re.compile(r"(?<=\n)(?=[A-Za-z])|(?<=[A-Za-z0-9])(?=\n)")

_FIGURES: Final = "0123456789"

# How far back such a place is looked for: some lines.
_NEAR_CHARS: Final = 1024


def _is_ascii_letter(text: str, at: int) -> bool:
    letter = text[at]
    return letter.isascii() and letter.isalpha()


def _splitters(added: list[dict[str, Any]], *, has_normalizer: bool) -> tuple[re.Pattern[str] | None, bool]:
    """What finds added tokens that text may be cut before, and whether nothing stands in the way of that.

    Tokens that are not normalized are split out before all else, so what is found of these is one. Of
    several that begin at a place the longest is taken.
    """
    first = [item for item in added if not item.get("normalized")]
    if not first and not has_normalizer:
        first = added
    if not first or any(item.get("single_word") for item in added):
        return None, False
    contents = sorted((item["content"] for item in first if item["content"]), key=len, reverse=True)
    bare = all(not item.get("lstrip") and not item.get("rstrip") for item in first)
    words = any(content[0].isalnum() or content[0].isspace() for content in contents)
    return re.compile("|".join(map(re.escape, contents))), bare and not words


def _battery(added: list[str]) -> Iterator[str]:
    """Texts that tell tokenizers apart: letters of many scripts, numbers, code, blanks, added tokens."""
    chance = random.Random(_SEED)
    words = (*_WORDS, *added)
    for _ in range(_TRIES):
        parts = [chance.choice(words) + chance.choice(_GAPS) for _ in range(chance.randrange(1, 60))]
        yield "".join(parts)
