"""A resolver of names that a test can take away: a small library between a process and its C library.

Names under .test resolve to 127.0.0.1 as long as a file exists, and to nothing afterwards; `metadata.test` to
the address at which clouds hand out credentials; other names are the system's. It is compiled where there is
a C compiler.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    static resolve real;
    if (!real) real = (resolve)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t size = node ? strlen(node) : 0;
    if (size > 5 && !strcmp(node + size - 5, ".test")) {
        const char *file = getenv("TEST_NAMES");
        if (!file || access(file, F_OK)) return EAI_NONAME;
        node = strcmp(node, "metadata.test") ? "127.0.0.1" : "169.254.169.254";
    }
    return real(node, service, hints, found);
}
"""

_CC = shutil.which("cc") or shutil.which("gcc")


def can_be_made() -> bool:
    """Reads. Whether there is a C compiler."""
    return _CC is not None


@dataclass(frozen=True)
class Resolver:
    """Names under .test. State: the file that says whether they resolve."""

    library: Path
    file: Path

    @property
    def env(self) -> dict[str, str]:
        """Reads. What a process needs in its environment."""
        return {"LD_PRELOAD": str(self.library), "TEST_NAMES": str(self.file)}

    def forget(self) -> None:
        """Writes. The names are gone."""
        self.file.unlink()

    def know(self) -> None:
        """Writes. The names are there."""
        self.file.touch()


def make_resolver(folder: Path) -> Resolver:
    """Compiles the library; the names are there."""
    assert _CC is not None
    source, library = folder / "names.c", folder / "names.so"
    source.write_text(_SOURCE, encoding="utf-8")
    subprocess.run([_CC, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    resolver = Resolver(library, folder / "names")
    resolver.know()
    return resolver
