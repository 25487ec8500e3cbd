"""Runtimes and devices: what is compiled and compared where, and files of devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core import Session
from mace_core.cli.mace_run import main as mace_run
from mace_core.cli.main import main
from mace_core.deployment.devices_file import read_devices, served
from mace_core.deployment.yaml_tree import ConfigError

from .conftest import Convert, graph_of, model_of

DEVICES = """
devices:
  nanopi:
    target_abis: [arm64, armhf]
    target_socs: RK3399
    models: FriendlyElec Nanopi M4
    address: 10.0.0.0
    username: user
  raspberry:
    target_abis: [armv7l]
    target_socs: BCM2837
    models: Raspberry Pi 3 Model B Plus Rev 1.3
    address: 10.0.0.1
"""


def test_a_file_of_devices_is_read_and_matched(folder: Path) -> None:
    (folder / "devices.yml").write_text(DEVICES, encoding="utf-8")
    devices, _ = read_devices(folder / "devices.yml")
    assert devices["nanopi"].target_abis == ("arm64", "armhf")
    assert served(devices, ["arm64-v8a"]) == [
        "the device nanopi at 10.0.0.0 takes what is built for arm64-v8a",
        "nothing is built for the device raspberry at 10.0.0.1, which takes armhf: add it to target_abis",
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            "address: 10.0.0.1",
            "adress: 10.0.0.1",
            "line 13: devices.raspberry.adress: there is no such key; did you mean",
        ),
        ("[armv7l]", "[mips]", "line 10: devices.raspberry.target_abis is 'mips'; it is one of host, armeabi-v7a"),
        ("devices:", "device:", "line 2: device: there is no such key; did you mean 'devices'?"),
        ("    target_abis: [armv7l]\n", "", "line 9: devices.raspberry.target_abis is missing"),
        ("models: FriendlyElec Nanopi M4", "models: [a]", "line 6: devices.nanopi.models is a list; it takes one text"),
    ],
)
def test_mistakes_in_a_file_of_devices_are_told(before: str, after: str, told: str, folder: Path) -> None:
    assert before in DEVICES
    (folder / "devices.yml").write_text(DEVICES.replace(before, after), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_devices(folder / "devices.yml")
    assert told in str(error.value)


def test_for_this_machine_the_package_has_what_the_cpu_compiles(small: dict[str, Any], convert: Convert) -> None:
    small["target_abis"] = "host"
    found = convert(small)
    assert found["models"][0]["compiled"] == {"cpu:0": "5 of 5 nodes in 1 subgraphs"}
    with Session(Path(found["folder"]) / found["models"][0]["package"], devices=["cpu"]) as session:
        assert any("small.mace" in str(each) for each in session.explain().preparations)


def test_a_dsp_is_compiled_for_and_emulated(small: dict[str, Any], convert: Convert) -> None:
    """For the SoCs that are named; results are compared on the emulation that is here."""
    pytest.importorskip("mace_hexagon", reason="the Hexagon provider is not installed: pip install ./plugins/hexagon")
    pytest.importorskip("onnxruntime_qnn", reason="onnxruntime-qnn is not installed: it has the emulation")
    small["target_socs"] = ["sm8650", "sdm660"]
    model_of(small)["runtime"] = "dsp"
    (model,) = convert(small)["models"]
    assert list(model["compiled"]) == ["hexagon:sm8650"]
    assert any(note.startswith("nothing is compiled for sdm660: ") for note in model["notes"])
    (judged,) = model["validation"]["outputs"]
    assert (judged["device"], judged["threshold"], judged["ok"]) == ("hexagon:v75", 0.98, True)


def test_a_device_that_is_not_here_is_told(small: dict[str, Any], convert: Convert) -> None:
    model_of(small)["runtime"] = "apu"
    (model,) = convert(small)["models"]
    (judged,) = model["validation"]["outputs"]
    assert (judged["device"], judged["threshold"], judged["ok"]) == ("cpu", 0.999, True)
    assert any(note.startswith("results are not checked on apu: ") for note in model["notes"])
    assert any(note.startswith("results are checked on the CPU instead") for note in model["notes"])


def test_mace_run_takes_the_runtime_and_the_options_of_the_package(
    small: dict[str, Any], convert: Convert, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints the tables of MACE's benchmark."""
    model_of(small)["winograd"] = 0
    graph_of(small)["input_aliases"] = "picture"
    convert(small)
    np.zeros((1, 8, 8, 3), np.float32).tofile("in_picture")
    flags = ["--input_file=in", "--output_file=out", "--round=2", "--benchmark_model", "--strict"]
    assert mace_run(["--model_name=small", *flags]) == 0
    printed = capsys.readouterr()
    assert "runtimes: cpu:0" in printed.err
    assert np.fromfile("out_y", np.float32).tolist() == [1.0] * 1024
    for title in ("Warm Up", "Run without statistics", "Sort by Run Order", "Stat by Op Type"):
        assert title in printed.out
    assert main(["validate", "build/small/model/small.mace"]) == 0
