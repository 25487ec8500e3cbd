"""What the tests share: the device to run on, and models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from mace_testing.quick_tier import is_drawn

from mace_core.graph import Graph
from mace_core.provider import Device

Array = npt.NDArray[np.float32]


QUICK_FORMS = 5
"""Of the operators, one of so many is tried in all its forms in the quick tier; each in its small cases."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a processor the OpenCL runtime takes long to compile its programs: most forms of operators, and what the kit
    asks of results that are read elsewhere, run with the full tests."""
    for item in items:
        if "test_conformance.py::TestOpenCl::" not in item.nodeid:
            continue
        assert isinstance(item, pytest.Function)
        others = item.originalname == "test_every_form_of_an_operator_is_right_or_declined" and not is_drawn(
            item.callspec.params["form_operator"], QUICK_FORMS
        )
        if others or item.originalname == "test_a_result_is_right_whoever_reads_it":
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
def device() -> Device:
    """The first OpenCL device of this machine."""
    pytest.importorskip("pyopencl", reason="pyopencl is not installed: pip install 'mace-opencl[pocl]'")
    from mace_opencl.provider import OpenClProvider

    found = OpenClProvider().probe()
    if not found.devices:
        pytest.skip("no OpenCL device: " + "; ".join(f"{item.what}: {item.reason}" for item in found.missing))
    return found.devices[0]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the core's."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def network() -> tuple[Graph, dict[str, Array]]:
    """A few layers that make several kernels and need a workspace, with a feed."""
    from mace_core.frontend.load import load_model
    from mace_core.testing.network import NetworkBuilder

    net = NetworkBuilder("small", (1, 8, 12, 12), seed=1)
    y = net.relu6(net.conv("x", 8, 16, 3))
    y = net.conv(y, 16, 16, 3, group=16)
    y = net.op("Softmax", net.op("GlobalAveragePool", y), axis=1)
    feed = np.random.default_rng(2).standard_normal((1, 8, 12, 12)).astype(np.float32)
    return load_model(net.build(y, (1, 16, 1, 1))), {"x": feed}
