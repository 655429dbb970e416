"""Images in prompts: identity by content, length as text."""

from __future__ import annotations

from warmroute.dialects.images import without_images
from warmroute_policies.token_ratio import TokenRatio

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


def test_a_model_is_odd_once_a_prompt_had_far_more_bytes_than_text_has() -> None:
    ratio = TokenRatio(4.0)
    ratio.learn("m", 4000, 1000)
    assert ratio.odd == set()
    ratio.learn("m", 1_000_000, 900)
    assert ratio.odd == {"m"}
    assert ratio.bytes_per_token("m") == 4.0
