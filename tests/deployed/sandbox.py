"""A command as a container runs it: nobody's user, no privileges, a root filesystem that is read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

USER: Final = "65532"

# In a mount namespace of its own, so that nothing outside changes. An interpreter in a home
# that only root may enter is put where it was, without the rest of that home.
_SCRIPT: Final = """
mount --make-rprivate /
if [ -n "$1" ]; then
    mount --bind "$2" "$3"
    mount -t tmpfs -o mode=755 none "$1"
    mkdir -p "$2"
    mount --bind "$3" "$2"
fi
mount -o remount,bind,ro /
cd /
shift 3
exec setpriv --reuid={user} --regid={user} --clear-groups \\
    --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
""".replace("{user}", USER)


def sandboxed(room: Path) -> list[str]:
    """What to put before a command. `room` is an empty folder that it may use.

    Skips the test where one may not become somebody else or mount.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as another user with a read-only root filesystem")
    for name in ("unshare", "setpriv", "mount"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not on PATH; Debian's packages are util-linux and mount")
    prefix = Path(sys.base_prefix)
    closed = [folder for folder in (prefix, *prefix.parents) if not folder.stat().st_mode & 0o001]
    words = ["unshare", "--mount", "sh", "-euc", _SCRIPT, "sandbox"]
    words += [str(closed[-1]) if closed else "", str(prefix), str(room)]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode:
        pytest.skip(f"this system does not let root mount: {tried.stderr.strip()}")
    return words
