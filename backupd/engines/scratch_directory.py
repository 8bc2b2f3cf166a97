"""The directory of a drill goes away, whatever lies in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from backupd.errors import NotHealthy


def remove_scratch(directory: Path) -> None:
    """Remove it and all in it; one that is not there is as good. Raises NotHealthy."""
    try:
        if os.path.lexists(directory):
            shutil.rmtree(directory)
    except FileNotFoundError:
        pass  # somebody else removes it, too
    except OSError as error:
        raise NotHealthy(
            f"the scratch directory {directory} cannot be removed",
            because=f"{error.filename}: {error.strerror or error}",
            next_step="fix its rights, then: backupctl recover",
        ) from None
