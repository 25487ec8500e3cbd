"""The process that `mace memory` looks at: it imports what an application would, step by step.

Its first steps are done by `CODE`, before anything is imported; what the command itself needs (reading pictures,
options) is imported after the model is loaded, and shown as a step of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import MaceError, ModelFileError, UsageError
from mace_core.measurement.memory import MemoryObserver, observe_memory

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.session import Session

CODE = """
def answer(question):
    from mace_core.measurement.memory import MemoryObserver
    observer = MemoryObserver(question["model"], question["files"])
    with observer:
        observer.end("Python")
        observer.begin("numpy")
        import numpy
        observer.end("numpy")
        observer.begin("mace_core")
        import mace_core.session
        observer.end("mace_core")
        from mace_core.cli.memory_child import observed
        found = observed(observer, question)
    return found if isinstance(found, dict) else found.as_data()
"""


def observed(observer: MemoryObserver, question: Mapping[str, Any]) -> Any:
    """The report, or the error as data."""

    def open_session() -> Session:
        from mace_core.frontend import trusted_files
        from mace_core.session import Session

        if question["custom_ops"]:
            from mace_core.cli.custom_ops import import_custom_ops

            for source in question["custom_ops"]:
                import_custom_ops(source)
        with trusted_files() if question["trust"] else contextlib.nullcontext():
            return Session(question["model"], **question["session"])

    def feeds_of(session: Session) -> Mapping[str, npt.NDArray[Any]]:
        from mace_core.cli.shared_options import InputOptions

        given = dict(question["inputs"])
        given["npz"] = None if given["npz"] is None else Path(given["npz"])
        return InputOptions(**given).feeds(session, fill=True)

    try:
        return observe_memory(observer, open_session, feeds_of, runs=question["runs"])
    except MaceError as error:
        kind = next((each for each in (ModelFileError, UsageError) if isinstance(error, each)), MaceError)
        return {"error": kind.__name__, "message": str(error)}
