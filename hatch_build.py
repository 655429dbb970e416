"""Compiles the modules on a request's way with mypyc: they stay plain Python, and cost a third of the CPU.

Wheels are compiled where a C compiler is found; without one the same sources run interpreted, correct and
slower. In a checkout, `python hatch_build.py` compiles in place (`make setup` does), and
`python hatch_build.py --remove` goes back to the sources. Which modules: `compiled` in pyproject.toml.

All of them are one unit, so that calls from one to another are C calls. A compiled module is an extension
beside its source; what they share is the top-level module `warmroute__mypyc`.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
GROUP = "warmroute"
SHARED = f"{GROUP}__mypyc"
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")


class CompileHook(BuildHookInterface):
    """A wheel with compiled modules. An editable install stays as it is: sources are what is edited there."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        if not has_compiler():
            self.app.display_warning(f"no C compiler ({compiler()}): this wheel will run interpreted")
            return
        compiled = compile_in_place(sources())
        build_data["infer_tag"] = True
        build_data["pure_python"] = False
        for path in compiled:
            build_data["force_include"][str(path)] = in_wheel(path)


def sources() -> list[Path]:
    """The modules that are compiled, as files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [ROOT / name for name in project["tool"]["warmroute"]["compiled"]]


def compiler() -> str:
    """The C compiler that this Python was built with."""
    return str(sysconfig.get_config_var("CC") or "cc").split()[0]


def has_compiler() -> bool:
    """Whether modules can be compiled here."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler()) is not None and header.exists()


def extension_of(source: Path) -> Path:
    """Where a module's extension lies."""
    return source.with_name(source.stem + SUFFIX)


def shared_extension() -> Path:
    """Where the code of all compiled modules lies: in the first source root, which is on the path."""
    return ROOT / "policies" / (SHARED + SUFFIX)


def in_wheel(extension: Path) -> str:
    """An extension's place in the wheel, where the source roots are one."""
    return extension.relative_to(ROOT).relative_to(extension.relative_to(ROOT).parts[0]).as_posix()


def compile_in_place(modules: list[Path]) -> list[Path]:
    """Compiles the modules and puts the extensions beside their sources. Raises SystemExit with the
    compiler's words when a module cannot be compiled."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    with TemporaryDirectory(prefix="warmroute-build-") as folder:
        extensions = mypycify(
            ["--config-file", str(ROOT / "pyproject.toml"), *map(str, modules)],
            group_name=GROUP,
            target_dir=folder,
            opt_level="2",
            debug_level="0",
        )
        command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        command.run()
        remove()
        placed = []
        for module in modules:
            place = extension_of(module)
            shutil.copy2(Path(folder) / in_wheel(place), place)
            placed.append(place)
        shutil.copy2(Path(folder) / shared_extension().name, shared_extension())
    return [*placed, shared_extension()]


def remove() -> None:
    """Goes back to the sources."""
    for root in ("policies", "router"):
        for extension in (ROOT / root).rglob("*.so"):
            extension.unlink()


def main() -> None:
    """In a checkout: compiles in place, or goes back to the sources with `--remove`."""
    if "--remove" in sys.argv[1:] or not has_compiler():
        remove()
        print("setup: modules run interpreted", "" if has_compiler() else f"(no C compiler: {compiler()})")
        return
    compile_in_place(sources())


if __name__ == "__main__":
    main()
