"""Runs the Dockerfile's own instructions without a container engine, in a folder instead of an image.

    python tests/deployed/rehearse.py FOLDER [--interpreted] [--extras otel,dns]

`COPY` copies what .dockerignore lets through, `RUN` runs with the image's absolute paths moved below FOLDER,
under this Python instead of the base image's. The result is FOLDER/opt/warmroute, an environment that differs
from the image's only by the system below it. What this cannot show is that the base images exist and that a
container engine agrees.

`--interpreted` hides the C compiler, which saves the minute of compiling; that the wheel is a compiled one
is then not asked for.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it finds what pytest finds for it

from deployed.dockerfile import ROOT, Instruction, context, stages

# The paths that the Dockerfile uses inside the image; anything else in a RUN is left as it is.
IMAGE_PATHS: Final = ("/wheels", "/dist", "/opt/warmroute")

# A build that hangs ends; compiling takes two minutes on two slow cores, fetching some seconds.
TIMEOUT_S: Final = 900


class FailedError(Exception):
    """An instruction failed: what it was, and what it said."""


def rehearse(folder: Path, *, compiled: bool, extras: str | None = None) -> Path:
    """Writes the image's environment below the folder and returns its `bin`. Raises FailedError."""
    builder, final = stages()
    source = folder / "src"
    source.mkdir(parents=True)
    python = folder / "python"
    subprocess.run([sys.executable, "-m", "venv", python], check=True, timeout=TIMEOUT_S)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROUTER_")}
    if compiled:
        environment["PATH"] = f"{python / 'bin'}:{os.environ['PATH']}"
    else:
        environment |= {"PATH": _without_compiler(folder), "PIP_NO_COMPILE": "1"}
    for instruction in builder.instructions:
        if instruction.name == "COPY":
            *names, target = instruction.text.split()
            _copy(names, source / target)
        elif instruction.name == "ARG":
            key, _, value = instruction.text.partition("=")
            environment[key] = value if extras is None else extras
        elif instruction.name == "ENV":
            environment |= builder.variables()
            if not compiled:
                environment.pop("PIP_NO_CACHE_DIR", None)  # a rehearsal is repeated, an image's build is not
        elif instruction.name == "RUN":
            _run(instruction, folder, environment, compiled=compiled)
    for text in final.all("COPY"):
        if not text.startswith("--from"):
            name, target = text.split()
            _copy([name], folder / target.lstrip("/"))
    return folder / "opt" / "warmroute" / "bin"


def _run(instruction: Instruction, folder: Path, environment: dict[str, str], *, compiled: bool) -> None:
    command = instruction.text if compiled else re.sub(r"&& ls \S+", "", instruction.text)
    for path in IMAGE_PATHS:
        command = re.sub(rf"(?<![\w.-]){path}\b", str(folder) + path, command)
    answer = subprocess.run(
        ["sh", "-euc", command],
        cwd=folder / "src",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if answer.returncode:
        raise FailedError(f"RUN {instruction.text}\n{answer.stdout}")


def _without_compiler(folder: Path) -> str:
    """A PATH with the builder's Python and what else the instructions use, and so without a compiler."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("sh", "ls"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return f"{folder / 'python' / 'bin'}:{tools}"


def _copy(names: list[str], target: Path) -> None:
    """Writes: files to the target, or a folder's content as the target. FailedError for what is hidden."""
    files = context()
    for name in names:
        below = [file for file in files if file.is_relative_to(name)]
        if not below:
            raise FailedError(f"COPY {name}: .dockerignore does not let it through")
        for file in below:
            place = target / file.relative_to(name) if (ROOT / name).is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, place)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the Dockerfile's instructions, without a container engine")
    parser.add_argument("folder", type=Path, help="an empty or new folder")
    parser.add_argument("--interpreted", action="store_true", help="do not compile")
    parser.add_argument("--extras", help="instead of the Dockerfile's")
    options = parser.parse_args()
    try:
        place = rehearse(options.folder.resolve(), compiled=not options.interpreted, extras=options.extras)
    except FailedError as error:
        sys.exit(f"rehearse: {error}")
    print(subprocess.check_output([place / "router", "--version"], text=True), end="")
    print(f"{place}/router")


if __name__ == "__main__":
    main()
