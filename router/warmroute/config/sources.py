"""Where values come from: flags, `ROUTER_*` variables, the file, defaults. The first that has one wins whole.

A name that no setting has is an error wherever it stands, with the nearest name beside it: a typing error
must not become a default in silence. Every error names its source, the setting and what was expected.

    UsageError    the operator's fault: exit code 2
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    EnvSettingsSource,
    JsonConfigSettingsSource,
    TomlConfigSettingsSource,
    YamlConfigSettingsSource,
)

from warmroute.config.backends import Backend, late_backend
from warmroute.config.settings import ENV_PREFIX, FIELDS, Settings, is_secret, kind_of, variable_of

# Names the configuration file; a flag's counterpart that is not itself a setting.
CONFIG_VARIABLE: Final = ENV_PREFIX + "CONFIG"

_FileSource = type[YamlConfigSettingsSource] | type[TomlConfigSettingsSource] | type[JsonConfigSettingsSource]

_FILE_SOURCES: Final[dict[str, _FileSource]] = {
    ".yaml": YamlConfigSettingsSource,
    ".yml": YamlConfigSettingsSource,
    ".toml": TomlConfigSettingsSource,
    ".json": JsonConfigSettingsSource,
}


class UsageError(Exception):
    """What the operator asked for cannot be done. `problems` are complete sentences, one per line."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Given:
    """A value as one source gave it."""

    value: Any
    origin: str
    """The flag, the variable or the file."""
    key: str = ""
    """What follows the origin in a message: a file holds many settings."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and per setting the origin of its value ("default" where nobody gave one)."""

    settings: Settings
    origins: Mapping[str, str]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def load(flags: Mapping[str, Given], config: Path | None = None) -> Resolved:
    """Reads the environment and the file. Raises UsageError with every problem that was found.

    `config` is the file; None: the one that ROUTER_CONFIG names, if any.
    """
    problems = _unknown_variables()
    given: dict[str, Given] = {}
    path = config or _file_in_environment()
    if path is not None:
        for name, value in _read_file(path).items():
            if name in FIELDS:
                given[name] = Given(value, str(path), f": {name}")
            else:
                problems.append(f"{path}: unknown key {name!r}{did_you_mean(name, FIELDS)}")
    for name, value in EnvSettingsSource(Settings)().items():
        given[name] = Given(value, variable_of(name))
    given.update(flags)

    for name in [name for name, item in given.items() if not _is_plain(item.value)]:
        item = given.pop(name)
        problems.append(f"{item.origin}{item.key}: expected text in UTF-8, numbers, lists or mappings")
    try:
        settings = Settings(**{name: item.value for name, item in given.items()})
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=True):
            problems.append(_describe(detail, given))
        raise UsageError(*dict.fromkeys(problems)) from None
    if problems:
        raise UsageError(*problems)
    return Resolved(settings, {n: given[n].origin if n in given else "default" for n in FIELDS})


def _is_plain(value: object) -> bool:
    """Whether a value can be written down: no half of a character, no list that holds itself, no number
    without end. The checks of settings know nothing of such."""
    try:
        json.dumps(value, default=str, skipkeys=True, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def check_file_name(path: Path) -> None:
    """Raises UsageError where the name does not say in which form the file is."""
    if path.suffix.lower() not in _FILE_SOURCES:
        raise UsageError(f"{path}: expected a file named {', '.join(_FILE_SOURCES)}")


def load_backends(path: Path) -> tuple[Backend, ...]:
    """The workers that a file lists under `backend`, in the form that a configuration file has. Raises
    UsageError with every problem that was found."""
    values = dict(_read_file(path))
    listed = values.pop("backend", None)
    problems = [f"{path}: unknown key {name!r}: only `backend` is read here" for name in values]
    if listed is None:
        problems.append(f"{path}: expected a list under `backend`; no workers at all is `backend: []`")
    if problems:
        raise UsageError(*problems)
    given = {"backend": Given(listed, str(path), ": backend")}
    try:
        backends = Settings(backend=listed).backend
        return tuple(late_backend(backend.url.partition("://")[2], backend) for backend in backends)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        raise UsageError(*dict.fromkeys(_describe(detail, given) for detail in details)) from None
    except ValueError as error:
        raise UsageError(f"{path}: backend: {error}") from None


def _file_in_environment() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _unknown_variables() -> list[str]:
    known = {variable_of(name) for name in FIELDS} | {CONFIG_VARIABLE}
    unknown = sorted(
        name for name in os.environ if name.upper().startswith(ENV_PREFIX) and name.upper() not in known
    )
    problems = [f"unknown environment variable {name}{did_you_mean(name.upper(), known)}" for name in unknown]
    if f"{ENV_PREFIX}SERVICE_HOST" in unknown:
        problems.append(
            "Kubernetes sets such variables for a Service named `router`: set `enableServiceLinks: false` "
            "in the pod's spec, or name the Service otherwise"
        )
    return problems


def _read_file(path: Path) -> Mapping[str, Any]:
    check_file_name(path)
    source = _FILE_SOURCES[path.suffix.lower()]
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        values = source(Settings, path).init_kwargs
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UsageError(f"{path}: too many brackets in brackets") from None
    except (yaml.YAMLError, tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    except (AttributeError, TypeError, ValueError):
        # What the library does with a list or a bare word at the top.
        raise UsageError(f"{path}: expected a mapping of settings at the top") from None
    return {str(name): value for name, value in values.items()}


def _describe(detail: ErrorDetails, given: Mapping[str, Given]) -> str:
    """One line for one error: source, place inside a list or mapping, what was expected, what came."""
    name, *place = detail["loc"]
    field = FIELDS[str(name)]
    # A default may be wrong beside what somebody gave to another setting.
    item = given.get(str(name)) or Given(field.default, str(name))
    if name == "policy_param":
        # What follows the parameter's name are the types that were tried.
        place = place[:1]
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
    elif detail["type"] == "extra_forbidden":
        text = f"there is no such option{did_you_mean(str(place[-1]), Backend.model_fields)}"
    elif name == "backend" and place:
        text = f"{detail['msg'].lower()}, got {detail['input']!r}"
    else:
        text = f"expected {kind_of(field).expects}"
        if not is_secret(field):
            text += f", got {detail['input']!r}"
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"{item.origin}{item.key}{inside}: {text}"
