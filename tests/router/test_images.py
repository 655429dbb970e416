"""Images in prompts: identity by content, length as text."""

from __future__ import annotations

from warmroute.dialects.images import ImageModels, without_images

CAT = b"data:image/png;base64," + b"iVBORw0KGgo" * 4096
DOG = b"data:image/jpeg;base64," + b"/9j/4AAQSkZ" * 4096


def test_an_image_becomes_a_short_name_of_its_content() -> None:
    prompt = b'[{"type":"image_url","image_url":{"url":"%b"}},{"text":"what is it?"}]'
    cat, dog = without_images(prompt % CAT), without_images(prompt % DOG)
    assert cat == without_images(prompt % CAT)
    assert cat != dog
    assert len(cat) < 150
    assert cat.endswith(b'"}},{"text":"what is it?"}]')


def test_text_stays_as_it_is() -> None:
    text = b'[{"role":"user","content":"data: see ;base64, and data:text"}]'
    assert without_images(text) == text


def test_a_model_is_known_for_images_once_a_prompt_had_one() -> None:
    models = ImageModels()
    models.look("m", b"text " * 800, 1000)
    models.look("m", b"[%b]" % CAT, 20_000)
    assert models.names == set()
    models.look("m", b"[%b]" % CAT, 900)
    assert models.names == {"m"}


def test_an_engine_that_counts_too_few_tokens_is_not_asked_for_ever() -> None:
    models = ImageModels()
    for _ in range(8):
        models.look("m", b"text " * 8000, 100)
    models.look("m", b"[%b]" % CAT, 100)
    assert models.names == set()
