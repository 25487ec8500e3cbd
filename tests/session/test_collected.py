"""A session that is thrown away closes itself wherever garbage is collected: also where this thread holds a lock."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import pytest
from scheduler_models import PRODUCTS_INPUT, products

from mace_core import Session

LOCKS = (type(threading.Lock()), type(threading.RLock()))
SECONDS = 60.0


def locks() -> dict[str, Any]:
    """Those that all sessions of a process have in common."""
    found = {
        id(value): (f"{module.__name__}.{name}", value)
        for module in [module for name, module in sys.modules.items() if name.startswith(("mace_core", "mace_cpu"))]
        for name, value in vars(module).items()
        if isinstance(value, LOCKS)
    }
    return dict(found.values())


class Holder:
    """Is thrown away with its session by the collector alone."""

    def __init__(self) -> None:
        self.me = self
        self.session = Session(products(), devices=["cpu"])
        self.session.run({"x": PRODUCTS_INPUT})


@pytest.mark.parametrize("requests", [False, True], ids=["run", "queued"])
def test_it_waits_for_no_lock_that_the_thread_may_hold(requests: bool) -> None:
    """The collector may start at whatever is allocated while one is held."""
    with Session(products(), devices=["cpu"]) as session:  # imports them
        session.run_async({"x": PRODUCTS_INPUT}).result(SECONDS)
    found = locks()
    assert len(found) > 5
    for name, lock in found.items():
        holder = Holder()
        if requests:
            holder.session.run_async({"x": PRODUCTS_INPUT}).result(SECONDS)
        ended = threading.Event()

        def collect(lock: Any = lock, ended: threading.Event = ended) -> None:
            with lock:
                gc.collect()
            ended.set()

        del holder
        threading.Thread(target=collect, daemon=True).start()
        assert ended.wait(SECONDS), f"closing waits for {name}"
