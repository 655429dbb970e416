"""Text to ids: as the library that engines use says, in one piece or in many."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tokens.conversations import text
from tokens.models import vocabulary
from tokens.oracles import TINY
from warmroute.tokens.vocabulary import CannotRead, Vocabulary
from warmroute_policies.kv_blocks import pack_tokens

SEED = 11


class Truth:
    """What the library says. State: the tokenizer, which is read once."""

    def __init__(self, path: Path) -> None:
        self._read = tokenizers.Tokenizer.from_file(str(path))

    def __call__(self, given: str, *, special: bool = False) -> bytes:
        return pack_tokens(self._read.encode(given, add_special_tokens=special).ids)


def varied(folder: Path, **changes: Any) -> Path:
    """The tests' tokenizer with something else in its file."""
    document = json.loads((TINY / "tokenizer.json").read_text())
    document.update(changes)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder / "tokenizer.json"


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
BOS = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {
        "<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [900], "tokens": ["<|begin_of_text|>"]}
    },
}
KINDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a blank before all": {"pre_tokenizer": BYTE_LEVEL},
    "blanks are letters": {"pre_tokenizer": METASPACE},
    "no words": {"pre_tokenizer": None},
    "normalized": {"normalizer": {"type": "NFKC"}},
    "lower case": {"normalizer": {"type": "Lowercase"}},
    "something before": {"normalizer": {"type": "Prepend", "prepend": "x"}},
}


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Vocabulary, Truth]:
    """Ours and theirs of a kind: to read either takes longer than most of what is asked of them."""
    path = varied(tmp_path_factory.mktemp("kind"), **KINDS[request.param])
    return Vocabulary(path), Truth(path)


def test_a_long_text_in_pieces_has_the_ids_of_the_whole(both: tuple[Vocabulary, Truth]) -> None:
    made, truth = both
    chance = random.Random(SEED)
    for _ in range(3):
        given = text(chance, 30_000)
        pieces = list(made.in_pieces(given))
        assert b"".join(pieces) == truth(given), f"seed {SEED}"


def test_pieces_are_small_enough_not_to_hold_up_others() -> None:
    given = text(random.Random(SEED), 60_000)
    pieces = list(vocabulary().in_pieces(given))
    assert len(pieces) > 4
    assert max(map(len, pieces)) < len(b"".join(pieces)) / 3


def test_where_text_may_be_cut_the_parts_have_the_ids_of_the_whole(both: tuple[Vocabulary, Truth]) -> None:
    made, truth = both
    chance = random.Random(SEED)
    cuts = 0
    for _ in range(60):
        given = text(chance, 60)
        for before in (made.cut_before, made.added_before) if made.cuts else ():
            at = before(given, len(given))
            if at > 0:
                cuts += 1
                assert made.ids(given[:at]) + made.ids(given[at:]) == truth(given), f"seed {SEED}"
    assert cuts > 10 or not made.cuts


def test_the_usual_kind_may_be_cut_and_uses_the_fast_library() -> None:
    pytest.importorskip("fastokens")
    assert vocabulary().cuts
    assert vocabulary().quick


def test_the_last_added_token_before_a_place_is_the_one_that_a_search_from_the_beginning_finds() -> None:
    made, chance = vocabulary(), random.Random(SEED)
    for _ in range(200):
        given = text(chance, 30)
        end = chance.randrange(len(given) + 1)
        assert made._added is not None
        found = [one.start() for one in made._added.finditer(given, 0) if one.start() < end]
        assert made.added_before(given, end) == (found[-1] if found else -1), f"seed {SEED}"


def test_a_vocabulary_whose_tokens_may_touch_words_is_not_cut(tmp_path: Path) -> None:
    added = json.loads((TINY / "tokenizer.json").read_text())["added_tokens"]
    path = varied(tmp_path, added_tokens=[{**one, "single_word": True} for one in added])
    assert not Vocabulary(path).cuts


def test_what_belongs_around_a_text_is_what_the_library_puts_there(tmp_path: Path) -> None:
    path = varied(tmp_path, post_processor=BOS)
    made, truth = Vocabulary(path), Truth(path)
    assert made.can_wrap
    for given in ("a", "two words", "<|im_end|>", ""):
        assert made.wrapped(made.ids(given)) == truth(given, special=True)


def test_the_configuration_may_say_what_belongs_around_a_text() -> None:
    made = Vocabulary(TINY / "tokenizer.json", bos="<|begin_of_text|>", eos="")
    assert made.wrapped(b"") == pack_tokens([900])
    assert Vocabulary(TINY / "tokenizer.json").wrapped(b"") == b""


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json", '{"model": {"type": "Nobody"}}'])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(CannotRead, match=r"tokenizer\.json"):
        Vocabulary(path)


def test_a_special_token_that_is_not_there_is_refused() -> None:
    with pytest.raises(CannotRead, match="<nobody>"):
        Vocabulary(TINY / "tokenizer.json", bos="<nobody>")


def test_half_a_letter_has_no_ids() -> None:
    with pytest.raises(UnicodeEncodeError):
        vocabulary().ids("\ud800")


def test_an_added_token_of_any_id_costs_no_memory(tmp_path: Path) -> None:
    end = {"id": 1 << 29, "content": "<|/>", "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    described = {
        "version": "1.0",
        "added_tokens": [end],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"<?>": 0, "a": 1, "<|/>": 1 << 29}, "unk_token": "<?>"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    made = Vocabulary(tmp_path / "tokenizer.json")
    assert not made.quick
    assert made.ids("a b<|/>a") == pack_tokens([1, 0, 1 << 29, 1])
