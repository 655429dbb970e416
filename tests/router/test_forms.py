"""The model's name in a form: found in any pieces, and nothing else is taken for it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from warmroute.dialects.forms import SCANNED_BYTES_MAX, ModelField, boundary_of
from warmroute.dialects.media import Media, media_of
from warmroute.dialects.query import model_in
from warmroute.dialects.request import BadRequest

SEEDS = st.integers(min_value=0, max_value=2**32)
EXAMPLES = settings(max_examples=300, derandomize=True)


@dataclass
class Part:
    """As a client means it."""

    name: str
    value: bytes
    filename: str | None = None


def written(chance: random.Random, boundary: str, parts: list[Part], *, end: bool = True) -> bytes:
    """A form as clients' libraries write it, each in its own way."""
    pieces = [chance.choice(("", "", "a preamble\r\n")).encode()]
    for part in parts:
        quoted = chance.choice((f'"{part.name}"', part.name))
        filename = "" if part.filename is None else f'; filename="{part.filename}"'
        disposition = chance.choice(("Content-Disposition", "content-disposition"))
        fields = [f"{disposition}: form-data; name={quoted}{filename}"]
        if part.filename is not None or chance.random() < 0.3:
            fields.insert(chance.randrange(2), "Content-Type: text/plain; charset=utf-8")
        padding = chance.choice(("", "", " ", "\t "))
        head = "".join(f"{field}\r\n" for field in fields)
        pieces.append(f"--{boundary}{padding}\r\n{head}\r\n".encode())
        pieces.append(part.value + b"\r\n")
    if end:
        pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def parts_of(chance: random.Random, boundary: str) -> list[Part]:
    """Fields and files, some of which look like what is searched."""
    fake = f'\r\n--{boundary}x\r\ncontent-disposition: form-data; name="model"\r\n\r\nfake\r\n'.encode()
    almost = f"\r\n--{boundary[:-1]}".encode()
    values = (b"", b"en", b"\r\n", b"--", fake, almost, chance.randbytes(chance.randrange(300)))
    return [
        Part(
            chance.choice(("file", "language", "models", "xmodel", "model_name", "prompt")),
            b"".join(chance.choices(values, k=chance.randrange(3))),
            chance.choice((None, None, "a.wav", "name=model", "; name=model", "model")),
        )
        for _ in range(chance.randrange(5))
    ]


def looked_at_in_pieces(chance: random.Random, body: bytes, boundary: str) -> ModelField:
    """The scanner after as many pieces as it wanted."""
    scanner, begun = ModelField(boundary.encode()), bytearray()
    step = chance.choice((1, 7, 100, len(body)))
    while not scanner.done and len(begun) < len(body):
        begun += body[len(begun) : len(begun) + chance.randint(1, step)]
        scanner.look(begun)
    return scanner


@EXAMPLES
@given(SEEDS)
def test_the_model_is_found_wherever_it_stands_and_in_whatever_pieces_it_comes(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    boundary = chance.choice(("x", "----WebKitFormBoundaryAbC", "a'()+_,-./:=?", "0123456789abcdef" * 4))
    before, behind = parts_of(chance, boundary), parts_of(chance, boundary)
    name = chance.choice(("m", "meta/llama-3.1-8b", "模型", "m" * 256, "a b"))
    body = written(chance, boundary, [*before, Part("model", name.encode()), *behind])
    scanner = looked_at_in_pieces(chance, body, boundary)
    assert scanner.model == name
    whole = Media(boundary.encode(), "", names_model=True)
    assert whole.parse(body).model == whole.parse(memoryview(body)).model == name


@EXAMPLES
@given(SEEDS)
def test_a_form_without_it_is_read_to_its_end_and_never_names_another(seed: int) -> None:
    note(f"seed {seed}")
    chance = random.Random(seed)
    boundary = chance.choice(("x", "----WebKitFormBoundaryAbC"))
    parts = [*parts_of(chance, boundary), Part("model", b"in a file", "model.txt")]
    chance.shuffle(parts)
    whole = written(chance, boundary, parts)
    scanner = looked_at_in_pieces(chance, whole, boundary)
    assert (scanner.model, scanner.ended) == ("", True)
    cut = looked_at_in_pieces(chance, whole[: chance.randrange(len(whole) - 4)], boundary)
    assert (cut.model, cut.ended, cut.done) == ("", False, False)


def test_no_more_is_looked_at_than_the_delimiter_behind_the_name() -> None:
    chance = random.Random(0)
    body = written(chance, "x", [Part("model", b"m"), Part("file", b"z" * 1000, "a.wav")])
    needed = body.index(b"\r\nm\r\n--x") + len(b"\r\nm\r\n--x\r\n")
    scanner = ModelField(b"x")
    scanner.look(body[: needed - 1])
    assert not scanner.done, "the name might go on"
    scanner.look(body[:needed])
    assert (scanner.done, scanner.model) == (True, "m")


def test_what_comes_behind_64_kib_is_not_looked_at() -> None:
    chance = random.Random(0)
    late = written(chance, "x", [Part("file", b"z" * SCANNED_BYTES_MAX, "a.wav"), Part("model", b"m")])
    scanner = ModelField(b"x")
    scanner.look(late[: SCANNED_BYTES_MAX - 1])
    assert not scanner.done
    scanner.look(late)
    assert (scanner.done, scanner.ended, scanner.model) == (True, False, "")


@pytest.mark.parametrize("name", [b"m" * 257, b"\xff\xfe"], ids=["endless", "no text"])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest):
        ModelField(b"x").look(written(random.Random(0), "x", [Part("model", name)]))


@EXAMPLES
@given(st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_harm(data: bytes) -> None:
    scanner = ModelField(b"x")
    scanner.look(data)
    scanner.look(data * 2)
    assert not scanner.model


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; Boundary="a b;c"', b"a b;c"),
        (b"multipart/form-data;boundary=abc;x=y", b"abc"),
        (b"multipart/form-data", None),
        (b"multipart/form-data; boundary=", None),
        (b"multipart/form-data; boundary=" + b"x" * 300, None),
    ],
)
def test_the_boundary_is_what_the_content_type_says(content_type: bytes, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


FORM = b"multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("path", "content_type", "passed_on"),
    [
        ("/v1/audio/transcriptions", FORM, True),
        ("/v1/files", FORM, True),
        ("/v1/anything", b"audio/wav", True),
        ("/v1/anything", b"Application/Octet-Stream", True),
        ("/v1/audio/transcriptions", b"application/json", False),
        ("/v1/chat/completions", b"", False),
        ("/v1/chat/completions", b"application/octet-stream", False),
        ("/v1/anything", b"application/x-www-form-urlencoded", False),
    ],
)
def test_what_may_hold_a_prompt_is_read_whole(path: str, content_type: bytes, *, passed_on: bool) -> None:
    assert (media_of(path, content_type, path.encode()) is not None) is passed_on


def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        media_of("/v1/audio/transcriptions", b"multipart/form-data", b"/v1/audio/transcriptions")


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (b"/v1/realtime?model=m", "m"),
        (b"/v1/realtime?intent=transcription&model=meta%2Fllama%203", "meta/llama 3"),
        (b"/v1/realtime?model=", ""),
        (b"/v1/realtime?models=m", ""),
        (b"/v1/realtime", ""),
    ],
)
def test_the_url_may_name_the_model(target: bytes, model: str) -> None:
    assert model_in(target) == model


@pytest.mark.parametrize(
    "target", [b"/?model=" + b"m" * 257, b"/?model=m&" + b"a=1&" * 50, b"/?model=\xff"], ids=len
)
def test_a_query_that_cannot_be_read_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        model_in(target)
