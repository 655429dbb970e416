"""Compiles the modules on a request's way with mypyc: plain Python, for less CPU.

Wheels are compiled where there is a C compiler; without one the same sources run interpreted. In a
checkout, `python hatch_build.py` puts the compiled modules beside their sources, which Python then prefers
(`make setup` does that), and `python hatch_build.py --remove` goes back. Which modules: `compiled` in
pyproject.toml. Why, and what a compiled module may not do: docs/decisions/0006-compiled-modules.md.

All of them are one unit, so that calls between them are C calls: each becomes a small extension, the code is
in the top-level module `warmroute__mypyc`. Its C is a file for each module, and all processors compile them.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
GROUP = "warmroute"
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")
SHARED = f"{GROUP}__mypyc{SUFFIX}"
SHARED_ROOT = ROOT / "policies"
"""The source root that holds the shared code in a checkout: any that is on the path."""
LENIENT = (
    "--ignore-missing-imports",
    "--no-warn-unused-ignores",
    "--no-warn-return-any",
    "--allow-subclassing-any",
    "--allow-untyped-decorators",
)
"""Where a wheel is built, stubs and extras are not installed, and their types are Any. That costs nothing in
compiled code and must not end in an interpreted wheel. Whether types are right `make typecheck` says."""
C_FLAGS = (
    "-fvisibility=hidden",  # calls between files of the unit are direct: nobody replaces a function in it
    "-Wno-misleading-indentation",  # the C is nobody's to read, and gcc looks at the columns of every line
)
COMPILERS = min(8, os.cpu_count() or 1)
"""C files that are compiled at a time; each takes up to 120 MB."""


class CompileHook(BuildHookInterface[Any]):
    """A wheel with compiled modules. An editable install stays as it is: sources are what is edited there."""

    PLUGIN_NAME = "custom"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = TemporaryDirectory(prefix="warmroute-wheel-")

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        folder = Path(self.folder.name)
        try:
            extensions = compile_into(folder, sources()) if has_compiler() else []
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- any wheel is better than none
            self.app.display_error(str(error))
            extensions = []
        if not extensions:
            self.app.display_warning(
                "compiled modules need a C compiler and Python.h: this wheel runs interpreted"
            )
            return
        build_data["infer_tag"] = True
        build_data["pure_python"] = False
        for extension in extensions:
            build_data["force_include"][str(folder / extension)] = str(extension)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.folder.cleanup()


def sources() -> list[Path]:
    """The modules that are compiled, relative to the root: source root, package, module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Path(name) for name in project["tool"]["warmroute"]["compiled"]]


def compiler() -> str:
    """The C compiler that this Python was built with."""
    return str(sysconfig.get_config_var("CC") or "cc").split()[0]


def has_compiler() -> bool:
    """Whether modules can be compiled here."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler()) is not None and header.exists()


def compile_into(folder: Path, modules: list[Path]) -> list[Path]:
    """Compiles the modules; the extensions lie in the folder as in a wheel. Returns their paths in it.

    Ends the process with mypy's or the compiler's words when a module cannot be compiled.
    """
    from mypyc.build import mypycify

    with TemporaryDirectory(prefix="warmroute-build-") as work:
        extensions = mypycify(
            [
                "--config-file",
                str(ROOT / "pyproject.toml"),
                "--cache-dir",
                str(ROOT / ".mypy_cache" / "compiled"),  # other options than the type check's
                *LENIENT,
                *(str(ROOT / module) for module in modules),
            ],
            group_name=GROUP,
            target_dir=work,
            opt_level="2",  # measured as fast as 3
            debug_level="0",
            multi_file=True,
        )
        for extension in extensions:
            extension.extra_compile_args.extend(C_FLAGS)
        build(extensions, folder, work)
    return [Path(SHARED), *(in_wheel(module) for module in modules)]


def build(extensions: list[Any], folder: Path, work: str) -> None:
    """Compiles the C and links it. By itself setuptools compiles the files of one extension in turn."""
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    class BuildOnAllProcessors(build_ext):  # type: ignore[misc]
        def build_extensions(self) -> None:
            compile_in_turn = self.compiler.compile

            def compile_at_once(files: list[str], **options: Any) -> list[str]:
                compiled = compilers.map(lambda file: compile_in_turn([file], **options), files)
                return list(chain.from_iterable(compiled))

            with ThreadPoolExecutor(COMPILERS) as compilers:
                self.compiler.compile = compile_at_once
                super().build_extensions()

    command = BuildOnAllProcessors(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp, command.parallel = str(folder), work, COMPILERS
    command.ensure_finalized()
    command.run()


def in_wheel(module: Path) -> Path:
    """Where a module's extension lies in a wheel, whose source roots are one."""
    return Path(*module.parts[1:]).with_suffix(SUFFIX)


def compile_in_place() -> None:
    """Puts every extension beside its source."""
    with TemporaryDirectory(prefix="warmroute-place-") as name:
        folder = Path(name)
        compile_into(folder, sources())
        remove()
        for module in sources():
            shutil.copy2(folder / in_wheel(module), (ROOT / module).with_suffix(SUFFIX))
        shutil.copy2(folder / SHARED, SHARED_ROOT / SHARED)


def remove() -> None:
    """Goes back to the sources."""
    for root in {module.parts[0] for module in sources()}:
        for extension in (ROOT / root).rglob("*.so"):
            extension.unlink()


def main() -> None:
    """In a checkout: compiles in place, or goes back to the sources with `--remove`."""
    if "--remove" in sys.argv[1:]:
        remove()
    elif has_compiler():
        compile_in_place()
    else:
        remove()
        print(f"no C compiler ({compiler()}) or no Python.h: modules run interpreted, at a higher cost")


if __name__ == "__main__":
    main()
