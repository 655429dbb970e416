"""Configuration from files, variables and flags: right, or refused in words, never a traceback.

Oracle. `router config` and its readers return 0, or 2 with a message on stderr; nothing else is raised.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from fuzzing.mutation import TOKENS, mutate
from fuzzing.target import Finding
from warmroute import cli
from warmroute.config.settings import Settings, flag_of, variable_of

# Whatever they are given, these would read or need something of the machine: no input of the program.
_LEFT_OUT = frozenset(("journal", "learned_prices_file", "discover_kubernetes_kubeconfig"))

_NAMES = sorted(Settings.model_fields.keys() - _LEFT_OUT)

_VALUES = (
    "1", "0", "-1", "1.5", "1e999", "nan", "inf", "true", "off", "", " ", "a b", "a=b", "x=[", "x={}",
    "x=1e400",
    "http://h:1", "http://h:1,weight=2", "http://h:1,weight=nan", "http://[::1]:1", "http://u:p@h",
    "https://h",
    "64KiB", "1e3GiB", "9" * 30, "9" * 5000, "cache_aware", "round_robin", "random:seed=1", "x=" + "[" * 5000,
    "/health", "\ud800", "ü", "\x00", "h:1/x", "..", "*", "x" * 5000, "$HOME", "%s", "{}", "[]", "\n",
)  # fmt: skip

_YAML = (
    "a: &x [*x]", "? [a]\n: b", "- 1", "!!python/object/apply:os.system [x]", "a: b: c", "\tx", "...",
    "2024-01-01",
    "x: !!binary x", "x: 0o17", "<<: {a: 1}", "x: 1e3", "&a x: *b", "%YAML 9.9\n---\n", "x: |\n y", "~", "'",
    "a: &a [1,1,1]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]",
)  # fmt: skip


class ConfigurationTarget:
    """State: a folder for the files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, chance: random.Random) -> int:
        """One command line, environment and file. Raises Finding."""
        words = ["config"]
        environment: dict[str, str] = {}
        for _ in range(chance.randrange(4)):
            words += self._flag(chance)
        for _ in range(chance.randrange(3)):
            name = variable_of(chance.choice(_NAMES)) if chance.random() < 0.95 else "ROUTER_X"
            environment[name] = chance.choice(_VALUES).replace("\0", "")
        text = b""
        if chance.random() < 0.7:
            path = self._folder / chance.choice(("c.yaml", "c.yaml", "c.toml", "c.yml", "c.json", "c"))
            text = self._file(chance, path.suffix)
            path.write_bytes(text)
            words += ["--config", str(path)]
        given = json.dumps({"words": words, "environment": environment}).encode() + b"\n" + text
        self.play(words, environment, given)
        return 1

    def play(self, words: list[str], environment: dict[str, str], given: bytes) -> None:
        """Plays one command line. Raises Finding."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ROUTER_")}
        out, err = io.StringIO(), io.StringIO()
        try:
            with (
                mock.patch.dict(os.environ, _encodable(clean | environment), clear=True),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                code = cli.main(words)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 2
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise Finding(f"{type(error).__name__}: {str(error)[:300]}", given) from error
        if code not in (0, 2) or (code == 2 and not err.getvalue().strip()):
            raise Finding(f"exit code {code}, {err.getvalue()[:300]!r}", given)
        if "Traceback" in err.getvalue():
            raise Finding(err.getvalue()[:2000], given)

    def settle(self) -> None:
        """Nothing is left behind."""

    def _flag(self, chance: random.Random) -> list[str]:
        name = flag_of(chance.choice(_NAMES))
        if chance.random() < 0.05:
            name = chance.choice(("--" + "x" * 300, "--worker-urls", "-h", "--", "-", "--config"))
        value = chance.choice(_VALUES)
        match chance.randrange(4):
            case 0:
                return [name]
            case 1:
                return [f"{name}={value}"]
            case 2:
                return [name, value, chance.choice(_VALUES)]
            case _:
                return [name, value]

    def _file(self, chance: random.Random, suffix: str) -> bytes:
        lines = []
        for _ in range(chance.randrange(6)):
            name, value = chance.choice(_NAMES), chance.choice(_VALUES)
            shown = json.dumps(value) if chance.random() < 0.7 else value
            if chance.random() < 0.2:
                shown = json.dumps([value, chance.choice(_VALUES)])
            lines.append(f"{name} = {shown}" if suffix == ".toml" else f"{name}: {shown}")
        if chance.random() < 0.2:
            lines.append(chance.choice(_YAML))
        data = "\n".join(lines).encode("utf-8", chance.choice(("surrogatepass", "replace")))
        if chance.random() < 0.5:
            data = mutate(chance, data)
        if chance.random() < 0.05:
            data += chance.choice(TOKENS)
        return data


def _encodable(environment: dict[str, str]) -> dict[str, str]:
    """What a process can be given: no lone surrogates."""
    return {
        name: value.encode("utf-8", "replace").decode()
        for name, value in environment.items()
        if "\0" not in value
    }


@contextlib.contextmanager
def configuration_target(folder: Path) -> Iterator[ConfigurationTarget]:
    """The command line in this process; no port is opened."""
    yield ConfigurationTarget(folder)
