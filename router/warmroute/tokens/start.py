"""What the settings say of tokenizers, made when the router starts: from then on nothing is missing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from warmroute.tokens.service import Tokens
from warmroute_policies.errors import ConfigError

if TYPE_CHECKING:
    from warmroute.gateway import Gateway
    from warmroute.tokens.model import TokenModel

_ENGINE: Final = "engine"
"""Instead of a path: ask engines."""


def start_tokens(gateway: Gateway, stack: contextlib.ExitStack) -> None:
    """Writes. Tokenizers are read; the stack's end stops what works with them. Raises ConfigError for one
    that cannot be read, and without the libraries."""
    given = paths_of(gateway.settings.tokenizer)
    models: dict[str, TokenModel] = {}
    read: dict[Path, TokenModel] = {}
    for name, path in given.items():
        if path not in read:
            read[path] = _load(path)
        models[name] = read[path]
    asks = not models or _ENGINE in gateway.settings.tokenizer
    gateway.tokenizing = tokens = Tokens(gateway, models, asks=asks)
    stack.callback(tokens.close)


def paths_of(texts: tuple[str, ...]) -> dict[str, Path]:
    """Models' names to the paths of their tokenizers; "" is for all others. Raises ConfigError."""
    paths: dict[str, Path] = {}
    for text in texts:
        if text == _ENGINE:
            continue
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = "", text
        if not path:
            raise ConfigError(f"tokenizer: {text!r} names no path")
        if name in paths:
            raise ConfigError(f"tokenizer: there are two for {name or 'all models'}")
        paths[name] = Path(path)
    return paths


def _load(path: Path) -> TokenModel:
    try:
        from warmroute.tokens.loading import load
        from warmroute.tokens.vocabulary import CannotRead
    except ImportError as error:
        raise ConfigError(
            f"tokenizer needs libraries ({error.name} is missing): pip install 'warmroute[exact]'"
        ) from None
    try:
        return load(path)
    except CannotRead as error:
        raise ConfigError(f"tokenizer: {error}") from None
