"""What moves on a terminal while something takes long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from mace_core.progress import listening

PATIENCE_SECONDS = 1.0
"""Work that ends sooner gets no bar: it would only flicker."""


class _WhenKnown(ProgressColumn):
    """Another column, once it is known how much there is to do."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else self._column.render(task)  # type: ignore[return-value]


@contextlib.contextmanager
def progress_bar(text: str, *, screen: Console | None = None, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """A spinner with ``text`` while the body runs; a bar while work in it that reports its progress takes longer than
    ``patience`` seconds.  Nothing of it remains."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        _WhenKnown(BarColumn(30)),
        _WhenKnown(MofNCompleteColumn()),
    )
    screen = screen or Console(stderr=True, markup=False)
    began: dict[str, float] = {}
    with Progress(*columns, console=screen, transient=True) as shown:
        spinner, bar = shown.add_task(text, total=None), shown.add_task(text, total=1, visible=False)

        def told(what: str, done: int, total: int) -> None:
            begin = began.setdefault(what, time.monotonic())
            visible = done < total and time.monotonic() - begin >= patience
            shown.update(spinner, visible=not visible)
            shown.update(bar, visible=visible, description=f"{text}: {what}", completed=done, total=total)
            if done >= total:
                del began[what]

        with listening(told):
            yield
