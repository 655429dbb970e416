"""The Dockerfile as its instructions, and what .dockerignore lets through."""

from __future__ import annotations

import fnmatch
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage: `RUN`, and what follows it on one line."""

    name: str
    text: str


@dataclass(frozen=True)
class Stage:
    """What stands between one FROM and the next."""

    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The texts of all instructions of that name."""
        return [item.text for item in self.instructions if item.name == name]

    def variables(self) -> dict[str, str]:
        """What its ENV instructions set."""
        return dict(word.split("=", 1) for text in self.all("ENV") for word in shlex.split(text))


def stages() -> list[Stage]:
    """The Dockerfile's stages in their order. ARGs before the first FROM are put into what FROM says."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    text = DOCKERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            found.append(Stage(_expanded(rest, arguments)))
        elif found:
            found[-1].instructions.append(Instruction(name, rest))
        else:
            key, _, value = rest.partition("=")
            arguments[key] = _expanded(value, arguments)
    return found


def _expanded(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], text)


def context() -> list[Path]:
    """The files that .dockerignore lets through, relative to the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    hidden = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    files: list[Path] = []
    for name in (rule[1:] for rule in rules if rule.startswith("!")):
        path = ROOT / name
        files += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    relative = [file.relative_to(ROOT) for file in files]
    return [
        file
        for file in relative
        if not any(fnmatch.fnmatch(part, rule) for part in file.parts for rule in hidden)
    ]
