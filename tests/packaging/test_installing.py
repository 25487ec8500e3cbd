"""Any combination of the six installs into a clean environment with plain pip, and the command works there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

PLUGINS = ("cpu", "opencl", "hexagon", "apu", "npu")
TESTED_ALWAYS = ((), PLUGINS)


def check(run: Callable[..., object], plugins: tuple[str, ...]) -> list[str]:
    """`mace` lists just these plugins, all of them ok, and the devices they have, which are returned.

    Which accelerators there are depends on the machine and its drivers; a plugin without a device says so.
    """
    listed = run("mace", "plugins", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["plugins"] if row["kind"] == "provider"}
    assert set(rows) == {"reference", *plugins}
    assert {row["status"] for row in rows.values()} == {"ok"}, rows
    devices = run("mace", "devices", "--json")
    assert devices.returncode == 0, devices.stderr
    shown = json.loads(devices.stdout)
    names = [device["device"] for device in shown["devices"]]
    found = {name.partition(":")[0] for name in names}
    assert found <= {"reference", *plugins}
    assert names[-1] == "reference:0"
    assert ("cpu" in found) == ("cpu" in plugins)
    assert set(shown["missing"]) == set(plugins) - found
    return names


def run_model(run: Callable[..., object], tmp_path: Path) -> dict[str, object]:
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", info[:1], info[1:])
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    done = run("mace", "run", str(path), "--random", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["placement"])


@pytest.mark.parametrize("plugins", TESTED_ALWAYS, ids=lambda p: "+".join(("core", *p)))
def test_wheels_install_and_work(
    wheels: dict[str, Path],
    wheel_environment: Callable[..., Callable[..., object]],
    tmp_path: Path,
    plugins: tuple[str, ...],
) -> None:
    run = wheel_environment(*(wheels[f"mace-{name}"] for name in ("core", *plugins)))
    devices = check(run, plugins)
    placement = run_model(run, tmp_path)
    used = placement["nodes_per_device"]
    assert list(used.values()) == [1] and set(used) <= set(devices)
    assert placement["fallbacks"] == ({} if len(devices) > 1 else {"reference:0": 1})
    python = run(
        "python", "-c", "import sys, mace_core; print(sorted(m for m in sys.modules if m.startswith('mace_')))"
    )
    assert "mace_cpu" not in python.stdout


@pytest.mark.full  # `make test` has installed a checkout already
def test_one_pip_command_installs_core_and_plugins_from_a_checkout(
    checkout: Path, clean_environment: Callable[..., Callable[..., object]]
) -> None:
    run = clean_environment(str(checkout), str(checkout / "plugins" / "cpu"))
    check(run, ("cpu",))


@pytest.mark.full
@pytest.mark.parametrize(
    "plugins",
    [
        chosen
        for count in range(len(PLUGINS) + 1)
        for chosen in itertools.combinations(PLUGINS, count)
        if chosen not in TESTED_ALWAYS
    ],
    ids="+".join,
)
def test_every_combination_of_wheels_installs(
    wheels: dict[str, Path], wheel_environment: Callable[..., Callable[..., object]], plugins: tuple[str, ...]
) -> None:
    run = wheel_environment(*(wheels[f"mace-{name}"] for name in ("core", *plugins)))
    check(run, plugins)
