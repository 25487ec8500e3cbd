"""What the tests share: the device to run on, and models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from mace_testing.quick_tier import is_drawn, operator_of

from mace_core.graph import Graph
from mace_core.provider import Device

Array = npt.NDArray[np.float32]


ONE_OF = {
    "form_operator": 8,
    "case": 2,
    "claimed_case": 2,
    "mixed": 4,
    "cluster_operator": 2,
    "neighbor_operator": 100,
}
"""Parameter of a test of the kit -> of how many operators or graphs one is tried in the quick tier."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a processor the OpenCL runtime takes long to compile its programs: most of what the kit asks for each operator
    runs with the full tests.  All tests keep the same operators, and `test_kernels.py` tries every kind of kernel."""
    for item in items:
        if not (isinstance(item, pytest.Function) and "test_conformance.py::TestOpenCl::" in item.nodeid):
            continue
        for name, value in item.callspec.params.items() if hasattr(item, "callspec") else ():
            if name in ONE_OF and not is_drawn(operator_of(value), ONE_OF[name]):
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
