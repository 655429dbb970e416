"""A model's tokenizer from the files that are published with it: `tokenizer.json`, and beside it
`tokenizer_config.json`, `chat_template.jinja` and others. Read once, when the router starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from warmroute.tokens.model import TokenModel
from warmroute.tokens.templates import Template, Templates
from warmroute.tokens.vocabulary import CannotRead, Vocabulary

_VOCABULARY: Final = "tokenizer.json"
_CONFIG: Final = "tokenizer_config.json"
_SPECIAL: Final = "special_tokens_map.json"
_TEMPLATE: Final = "chat_template.jinja"
_TEMPLATES: Final = "additional_chat_templates"

# The template of this name is for requests with tools, where a model has several.
_WITH_TOOLS: Final = "tool_use"

# What templates may ask for by name.
_SPECIAL_NAMES: Final = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


def load(path: Path) -> TokenModel:
    """The model whose files lie in a folder, or whose `tokenizer.json` this is. Raises CannotRead."""
    folder, file = (path, path / _VOCABULARY) if path.is_dir() else (path.parent, path)
    if not file.is_file():
        raise CannotRead(
            f"{file} is not there" if path.is_dir() else f"{path} is neither a folder nor a file"
        )
    config = _read(folder / _CONFIG)
    special = {
        name: text
        for source in (_read(folder / _SPECIAL), config)
        for name in _SPECIAL_NAMES
        if (text := _text(source.get(name))) is not None
    }
    vocabulary = Vocabulary(file, **_wrapping(config, special))
    return TokenModel(vocabulary, _templates(folder, config, special))


def _templates(folder: Path, config: dict[str, Any], special: dict[str, str]) -> Templates | None:
    """Raises CannotRead."""
    sources: dict[str, str] = {}
    given = config.get("chat_template")
    if isinstance(given, str):
        sources["default"] = given
    elif isinstance(given, list):
        for item in given:
            if isinstance(item, dict) and isinstance(item.get("template"), str):
                sources[str(item.get("name"))] = item["template"]
    try:
        if (folder / _TEMPLATE).is_file():
            sources = {"default": (folder / _TEMPLATE).read_text(encoding="utf-8")}
        for more in sorted((folder / _TEMPLATES).glob("*.jinja")):
            sources[more.stem] = more.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRead(f"{folder}: its chat template cannot be read: {error}") from None
    made: dict[str, Template] = {}
    for name in ("default", _WITH_TOOLS):
        if name in sources:
            try:
                made[name] = Template(sources[name], special)
            except ValueError as error:
                raise CannotRead(f"{folder}: the chat template {name!r} is none: {error}") from None
    return Templates(made.get("default"), made.get(_WITH_TOOLS)) if made else None


def _wrapping(config: dict[str, Any], special: dict[str, str]) -> dict[str, str]:
    """What `transformers` puts around texts where the configuration says so, whatever `tokenizer.json`
    does."""
    if type(config.get("add_bos_token")) is not bool and type(config.get("add_eos_token")) is not bool:
        return {}
    return {
        "bos": special.get("bos_token", "") if config.get("add_bos_token") is True else "",
        "eos": special.get("eos_token", "") if config.get("add_eos_token") is True else "",
    }


def _read(file: Path) -> dict[str, Any]:
    """Raises CannotRead."""
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CannotRead(f"{file} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise CannotRead(f"{file} is no JSON object")
    return document


def _text(value: Any) -> str | None:
    """A token, written as text or as an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
