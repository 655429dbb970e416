"""A watched file with a list of workers, as in a configuration file: `backend: [http://gpu1:8000, …]`.

Its content is compared, not its date or inode: a file that is renamed into place and Kubernetes' exchange of
the symbolic links of a ConfigMap are seen like any other change.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from warmroute.config.sources import UsageError, load_backends
from warmroute.discovery.found import Found, Report

# A thousand workers with all options are some 150 KB.
_FILE_BYTES_MAX: Final = 4 << 20


class FileSource:
    """State: the path."""

    kind = "file"

    def __init__(self, path: Path, interval_s: float) -> None:
        self.target = str(path)
        self._path = path
        self._interval_s = interval_s

    async def run(self, report: Report) -> None:
        """Writes. Looks at the file every `interval_s` until it is cancelled."""
        seen: bytes | None = None
        workers: list[Found] = []
        why: str | None = None
        while True:
            try:
                content = await asyncio.to_thread(_content, self._path)
                if content != seen:
                    # It is read once more there; if it changes in between, the next look sees that.
                    workers, why = await asyncio.to_thread(_workers, self._path), None
                    seen = content
            except UsageError as error:
                seen, why = None, "; ".join(error.problems)
            except OSError as error:
                seen, why = None, f"cannot be read: {error.strerror}"
            if why is None:
                report.found(workers)
            else:
                report.failed(why)
            await asyncio.sleep(self._interval_s)


def _content(path: Path) -> bytes:
    """Raises OSError, and UsageError for a file that is no list of workers by its size alone."""
    with path.open("rb") as file:
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise UsageError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
    return content


def _workers(path: Path) -> list[Found]:
    return [Found(backend) for backend in load_backends(path)]
