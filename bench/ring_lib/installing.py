"""Where contestants come from: this project, the system, or an environment of their own.

A peer of the package index is installed on first use, at the version pinned here, into a virtual environment
below the cache folder that `bench/dataplane.py` uses too. An environment that is there already can be named
instead; what is in it is what is measured, and its version is read from it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from dataplane_lib.routers import CACHE, CannotRun
from warmroute_policies import balancer

PINNED: Final[dict[str, tuple[str, ...]]] = {
    "sglang-router": ("sglang-router==0.3.2",),
    "smg": ("smg==1.13.0",),
    "vllm-router": ("vllm-router==0.1.17",),
    "litellm": ("litellm[proxy]==1.106.2",),
    "dynamo": (
        "ai-dynamo==1.6.1",
        "ai-dynamo-runtime==1.6.1",
    ),
}
"""By program: what pip is asked for."""

_DYNAMO_NEEDS: Final = (
    *("aiohttp", "msgspec", "prometheus-client", "pyzmq", "redis", "tqdm", "transformers", "zstandard"),
    *("pydantic", "uvloop", "httpx"),
)
"""ai-dynamo itself is installed without its dependencies: one of them downloads from an index of its own."""

_PACKAGES: Final = {"dynamo": "ai-dynamo"}
"""Where a program's name is not its package's."""


class Places:
    """Reads only. Where each program is."""

    def __init__(self, environments: Mapping[str, Path], nginx: str | None) -> None:
        """`environments`: folders of virtual environments, by program."""
        self._environments, self._nginx = environments, nginx

    def prepare(self, program: str) -> None:
        """Installs it where it is missing. Raises CannotRun."""
        if program == "nginx":
            self.nginx()
        elif program != "warmroute":
            self.python(program)

    def python(self, program: str) -> str:
        """The interpreter of a peer's environment. Raises CannotRun."""
        folder = self._environments.get(program)
        if folder is None:
            folder = _installed(program)
        python = folder / "bin" / "python"
        if not python.exists():
            raise CannotRun(f"there is no {python}")
        return str(python)

    def nginx(self) -> str:
        """Raises CannotRun."""
        path = self._nginx or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if path is None:
            raise CannotRun("nginx is not installed (or name it with --nginx PATH)")
        return path

    def version(self, program: str) -> str:
        """Reads. Raises CannotRun."""
        if program == "warmroute":
            compiled = not balancer.__file__.endswith(".py")
            return version("warmroute") + ("" if compiled else ", not compiled")
        if program == "nginx":
            done = subprocess.run([self.nginx(), "-v"], capture_output=True, text=True, check=False)
            return done.stderr.strip().rpartition("/")[2]
        ask = f"import importlib.metadata as m; print(m.version({_PACKAGES.get(program, program)!r}))"
        done = subprocess.run([self.python(program), "-c", ask], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRun(f"{program} is not in {self.python(program)}'s environment")
        return done.stdout.strip()


def _installed(program: str) -> Path:
    """The folder of a peer's own environment, made when it is missing. Raises CannotRun."""
    wanted = PINNED[program]
    folder = CACHE / wanted[0].replace("==", "-").replace("[proxy]", "")
    done = folder / ".installed"
    if not done.exists():
        print(f"installing {program} into {folder}", file=sys.stderr)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
            if program == "dynamo":
                subprocess.run([*pip, "--no-deps", *wanted], check=True, capture_output=True, text=True)
                wanted = _DYNAMO_NEEDS
            subprocess.run([*pip, *wanted], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            words = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise CannotRun(f"cannot be installed: {words[-1] if words else error}") from None
        done.touch()
    return folder
