"""What is said when a run ends for want of memory or files."""

from __future__ import annotations

from typing import NoReturn

from mace_core.errors import OutOfMemoryError
from mace_core.host.memory import files_exhausted


def raise_explained(error: MemoryError | OSError, model: str) -> NoReturn:
    """Raise what a run of ``model`` fails with, where it failed with ``error``.

    Raises:
        OutOfMemoryError: in the place of Python's own MemoryError, and with the model's name.
        OSError: what it was, where it was no want of files.
    """
    if isinstance(error, OutOfMemoryError):
        error.add_context(model)
        raise error
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(
            f"{model}: the run needs more memory than there is{detail}; give it smaller inputs"
        ) from error
    exhausted = files_exhausted(error, f"{model}: the run")
    if exhausted is None:
        raise error
    raise exhausted from error
