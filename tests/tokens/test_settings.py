"""What the settings say of tokenizers is found out when the router starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tokens.conftest import folder_with
from warmroute.tokens.loading import load
from warmroute.tokens.start import paths_of
from warmroute.tokens.vocabulary import CannotRead
from warmroute_policies.errors import ConfigError


def test_paths_are_for_models_or_for_all_others(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    odd = str(tmp_path / "a=b")
    assert paths_of(("meta/llama=/x", "/y", "engine")) == {"meta/llama": Path("/x"), "": Path("/y")}
    assert paths_of((odd,)) == {"": Path(odd)}


@pytest.mark.parametrize("texts", [("/x", "/y"), ("m=/x", "m=/y"), ("m=",)])
def test_paths_that_contradict_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="tokenizer"):
        paths_of(texts)


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=r"tokenizer\.json is not there"):
        load(tmp_path)
    with pytest.raises(CannotRead, match="neither"):
        load(tmp_path / "nobody")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer_config.json", "{", "cannot be read"),
        ("tokenizer_config.json", "[]", "no JSON object"),
        ("chat_template.jinja", "{% for %}", "chat template"),
        ("tokenizer_config.json", json.dumps({"add_bos_token": True, "bos_token": "<nobody>"}), "<nobody>"),
    ],
)
def test_files_that_are_no_good_are_refused(name: str, content: str, says: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "chatml")
    (folder / name).write_text(content)
    with pytest.raises(CannotRead, match=says):
        load(folder)


def test_named_templates_are_taken_as_transformers_takes_them(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "chatml")
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    templates = load(folder).templates
    assert templates is not None
    assert [templates.choose(with_tools=tools).source for tools in (False, True)] == ["a", "b"]  # type: ignore[union-attr]
    (folder / "chat_template.jinja").write_text("c")
    templates = load(folder).templates
    assert templates is not None
    assert [templates.choose(with_tools=tools).source for tools in (False, True)] == ["c", "c"]  # type: ignore[union-attr]


def test_a_router_with_a_bad_path_does_not_start(tmp_path: Path) -> None:
    words = ["--backend", "http://127.0.0.1:1", "--port", "0", "--tokenizer", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "warmroute", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "tokenizer.json is not there" in done.stdout + done.stderr
