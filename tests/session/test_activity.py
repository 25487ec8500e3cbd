"""What sessions count of their runs, for those who watch."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scheduler_models import PRODUCTS_INPUT as X
from scheduler_models import products

from mace_core import Session
from mace_core.activity import sessions
from mace_core.errors import InputError


def test_sessions_count_their_runs_and_failures() -> None:
    before = {found.number for found in sessions()}
    with Session(products(), devices=["cpu"]) as session:
        threads = [threading.Thread(target=lambda: [session.run({"x": X}) for _ in range(20)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.run({"x": X}, ["y"])
        with pytest.raises(InputError):
            session.run({"x": np.zeros((5, 8), np.float32)})
        (found,) = [found for found in sessions() if found.number not in before]
        assert (found.model, found.devices) == ("products", ("cpu:0",))
        assert found.runs == pytest.approx(41, abs=1)  # counted without a lock
        assert found.failures == 1
        assert found.busy_seconds > 0
    assert {found.number for found in sessions()} == before
