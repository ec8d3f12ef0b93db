"""How files are told in a run of pytest: as they are seen from the folder that it was started in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def relative(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return a path as it is seen from a folder, or as it is where it cannot be (another drive)."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return str(path)


def seen(config: pytest.Config, path: str | os.PathLike[str]) -> str:
    """Return a path as it is seen from where pytest was started."""
    return relative(path, config.invocation_params.dir)


def problems_of(config: pytest.Config, path: str | os.PathLike[str], error: Any) -> list[str]:
    """Return a line for each problem of a file: of a `PolicyError` or a `CaseFileError`."""
    return [f"{seen(config, path)}:{problem}" for problem in error.problems]


def unread(config: pytest.Config, path: str | os.PathLike[str], error: Exception) -> str:
    """Return the line that says that a file cannot be read, and why."""
    said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    return f"`{seen(config, path)}` cannot be read: {said}"
