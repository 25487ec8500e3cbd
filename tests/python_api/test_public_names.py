"""What `mace_core` shows: its names, without importing what stands behind them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import mace_core as mace
from mace_core.tensor import DType


def test_the_public_names_are_shown_and_all_of_them_are_there() -> None:
    shown = {name for name in dir(mace) if not name.startswith("__")}
    assert shown == {name for name in mace.__all__ if not name.startswith("__")}
    assert shown >= {"CancelFlag", "Session", "custom_op", "devices", "errors"}
    for name in mace.__all__:
        assert getattr(mace, name) is not None
    assert {name for name in dir(mace) if not name.startswith("__")} == shown  # not what was imported since, either


def test_showing_the_names_imports_nothing() -> None:
    script = (
        "import mace_core, sys\nbefore = set(sys.modules)\nassert 'Session' in dir(mace_core)\n"
        "print(sorted(set(sys.modules) - before))\nprint('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_everything_public_can_be_imported_at_once() -> None:
    names: dict[str, object] = {}
    exec("from mace_core import *", names)
    assert set(mace.__all__) <= names.keys()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mace_core' has no attribute 'Sesion'"):
        _ = mace.Sesion


@pytest.mark.parametrize("kind", list(DType), ids=lambda kind: kind.label)
def test_numpy_takes_every_element_type_for_a_dtype(kind: DType) -> None:
    assert np.dtype(kind) == kind.numpy
    assert np.zeros((2, 3), kind).dtype == kind.numpy
    assert np.ones(3, np.int8).astype(kind).dtype == kind.numpy
    assert np.zeros(2, kind.numpy).dtype == kind
