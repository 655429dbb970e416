"""The image's environment, made once for all tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployed.rehearse import FailedError, rehearse


@pytest.fixture(scope="session")
def image() -> Iterator[Path]:
    """What the Dockerfile makes, interpreted, below a folder that anybody may read: the folder."""
    folder = Path(tempfile.mkdtemp(prefix="warmroute-image-"))
    folder.chmod(0o755)
    try:
        rehearse(folder, compiled=False)
    except FailedError as error:
        unreachable = "Could not find a version" in str(error) and "pip download" in str(error)
        if not unreachable:
            raise
        pytest.skip(f"the image's packages cannot be had here: {str(error).strip().rpartition(chr(10))[2]}")
    else:
        yield folder
    finally:
        shutil.rmtree(folder)
