"""What each sub-command prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


def test_version_and_help(mace: Mace) -> None:
    from mace_core.version import VERSION

    assert mace("--version").stdout == f"mace {VERSION}\n"
    shown = mace("--help").stdout
    for command in (
        "run",
        "explain",
        "benchmark",
        "accuracy",
        "validate",
        "quantize",
        "prune",
        "devices",
        "plugins",
        "doctor",
        "cache",
    ):
        assert command in shown
    assert "mace run model.onnx --random" in shown


@pytest.mark.parametrize("command", ["run", "explain", "benchmark", "accuracy", "validate", "quantize", "prune"])
def test_help_of_a_command_has_examples(mace: Mace, command: str) -> None:
    done = mace(command, "--help")
    assert done.returncode == 0
    assert f"mace {command} model.onnx" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\nfrom mace_core.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "print([m for m in ('onnx', 'numba', 'llvmlite', 'PIL', 'mace_core.session', 'pluggy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_run_computes_what_numpy_computes(mace: Mace, model: Path, tmp_path: Path) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.save(tmp_path / "x.npy", x)
    done = mace("run", "model.onnx", "--input", "x=x.npy", "--output-dir", "results", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    expected = np.maximum(x @ w + np.array([1, -100], np.float32), 0)
    assert np.array_equal(np.load(tmp_path / "results" / "y.npy"), expected)
    assert shown["outputs"]["y"]["values"] == expected.tolist()
    assert shown["outputs"]["y"]["shape"] == [2, 2]
    assert shown["files"] == {"y": "results/y.npy"}


def test_run_tells_the_fallback_to_the_reference(mace: Mace, model: Path) -> None:
    done = mace("run", "model.onnx", "--random")
    assert done.returncode == 0, done.stderr
    assert "y: float32[1, 2]" in done.stdout
    assert "reference:0: 2" in done.stdout
    assert "FALLBACK: 2 nodes" in done.stdout
    assert "sizes assumed for free dimensions: n=1 (--shape x=1x3 sets them)" in done.stderr


def test_random_input_depends_on_the_seed_alone(mace: Mace, model: Path) -> None:
    def output(seed: int) -> object:
        done = mace("run", "model.onnx", "--random", "--shape", "4x3", "--seed", str(seed), "--json")
        return json.loads(done.stdout)["inputs"]["x"]["mean"]

    assert output(1) == output(1)
    assert output(1) != output(2)


def test_a_picture_becomes_the_model_s_input(mace: Mace, picture_model: Path, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    done = mace(
        "run", "picture.onnx", "-i", "p.png", "-o", ".", "--mean", "100,110,120", "--scale", "0.5,0.25,0.125", "--bgr"
    )
    assert done.returncode == 0, done.stderr
    mean, scale = np.array([100, 110, 120], np.float32), np.array([0.5, 0.25, 0.125], np.float32)
    expected = ((pixels[:, :, ::-1].astype(np.float32) - mean) * scale).transpose(2, 0, 1)[None]
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)


def test_explain_says_where_and_why(mace: Mace, model: Path) -> None:
    done = mace("explain", "model.onnx", "--device", "reference")
    assert done.returncode == 0, done.stderr
    assert "product (Gemm)" in done.stdout
    shown = json.loads(mace("explain", "model.onnx", "--shape", "x=5x3", "--json").stdout)
    assert {node["node"]: node["device"] for node in shown["nodes"]} == {
        "product": "reference:0",
        "relu": "reference:0",
    }
    assert "5, 3" in shown["signature"]


def test_benchmark_times_phases_and_operations(mace: Mace, model: Path) -> None:
    done = mace("benchmark", "model.onnx", "--shape", "x=8x3", "--runs", "3", "--warmup", "1", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    seconds = shown["seconds"]
    assert set(seconds) == {
        "import",
        "load",
        "compile",
        "first_run",
        "warm_p50",
        "warm_p90",
        "warm_p99",
        "warm_min",
    }
    assert 0 < seconds["warm_min"] <= seconds["warm_p50"] <= seconds["warm_p90"] <= seconds["warm_p99"]
    assert shown["macs"] == 8 * 3 * 2
    assert shown["gmac_per_second"] == pytest.approx(48 * shown["inferences_per_second"] / 1e9)
    assert [step["type"] for step in shown["steps"]] == ["Gemm", "Relu"]
    assert {row["type"] for row in shown["by_type"]} == {"Gemm", "Relu"}
    assert shown["peak_memory_bytes"] > 10**7


def test_benchmark_prints_three_tables(mace: Mace, model: Path) -> None:
    done = mace("benchmark", "model.onnx", "--runs", "1", "--warmup", "0")
    assert done.returncode == 0, done.stderr
    for title in ("operations, the longest first", "by type"):
        assert title in done.stdout
    assert "in the order they ran" not in done.stdout
    assert "operations in the order they ran" in mace("benchmark", "model.onnx", "--runs", "1", "--all").stdout


def test_devices_shows_what_is_there_and_what_is_not(mace: Mace) -> None:
    done = mace("devices", plugins="npu")
    assert done.returncode == 0, done.stderr
    assert "reference:0" in done.stdout
    assert "npu: not everything is there" in done.stdout
    assert "Intel NPU: none is registered" in done.stdout
    shown = json.loads(mace("devices", "--json", "--refresh").stdout)
    assert [device["device"] for device in shown["devices"]] == ["reference:0"]


def test_devices_tells_real_units_from_virtual_ones(mace: Mace) -> None:
    """In groups for a reader, and on each line for a filter."""
    shown = mace("devices", plugins="acme").stdout
    real, virtual = shown.index("units of this machine:"), shown.index("stand-ins, emulations and simulations")
    assert real < shown.index("reference:0 ") < virtual < shown.index("acme:sim0")
    assert "their speed means nothing" in shown
    words = {line.split()[0]: line.split()[1] for line in shown.splitlines() if ":" in line.split(" ")[0]}
    assert words["reference:0"] == "real"
    assert words["acme:sim0"] == "virtual"


def test_a_benchmark_on_a_virtual_device_is_no_measure_of_speed(mace: Mace, model: Path) -> None:
    line = ("benchmark", "model.onnx", "--shape", "x=8x3", "--runs", "2", "--warmup", "0")
    done = mace(*line, "--device", "acme:sim0", "--timeline", "t.svg", "--trace", "t.json", plugins="acme")
    assert done.stdout.startswith("NOT A MEASURE OF SPEED: acme:sim0 is virtual (ACME NPU simulator)"), done.stderr
    for file in ("t.svg", "t.json"):
        assert "acme:sim0 is virtual, its speed means nothing" in (model.parent / file).read_text()
    shown = json.loads(mace(*line, "--device", "acme:sim0", "--json", plugins="acme").stdout)
    assert shown["measures_speed"] is False
    assert shown["virtual"] == {"acme:sim0": "ACME NPU simulator"}
    assert "MEASURE" not in mace(*line).stdout
    assert json.loads(mace(*line, "--json").stdout)["measures_speed"] is True


def test_plugins_shows_where_each_comes_from(mace: Mace) -> None:
    rows = {row["name"]: row for row in json.loads(mace("plugins", "--json").stdout)["plugins"]}
    assert rows["reference"]["distribution"] == "mace-core"
    assert rows["reference"]["status"] == "ok"
    assert rows["reference"]["api_version"] == "1.0"
    assert rows["onnx"]["kind"] == "frontend"
    assert rows["cpu"]["status"] == "disabled"
    assert "MACE_PLUGINS" in rows["cpu"]["reason"]


def test_doctor_tries_every_real_device(mace: Mace) -> None:
    done = mace("doctor", "--json")
    shown = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert shown["ok"]
    by_topic = {finding["topic"]: finding for finding in shown["findings"]}
    assert by_topic["device reference:0"]["state"] == "ok"
    assert by_topic["cache"]["state"] == "ok"


def test_doctor_says_what_each_provider_has_and_what_it_looked_for(mace: Mace) -> None:
    shown = json.loads(mace("doctor", "--json", plugins="acme,npu").stdout)
    by_topic = {finding["topic"]: finding for finding in shown["findings"]}
    assert by_topic["devices of reference"]["text"] == "1 real (reference:0)"
    assert by_topic["devices of acme"]["text"] == "1 virtual (acme:sim0)"
    assert by_topic["plugin npu"]["text"].startswith("mace-npu ")
    assert "numpy " in by_topic["plugin npu"]["text"]
    assert "device acme:sim0" not in by_topic, "a virtual device is tried by nobody who has not named it"
    looked_for = by_topic["npu: Intel NPU"]
    assert "/sys/class/accel" in looked_for["text"]
    assert "install" in looked_for["hint"]


def test_the_cache_can_be_looked_at_and_cleared(mace: Mace, model: Path, tmp_path: Path) -> None:
    mace("devices")
    shown = json.loads(mace("cache", "list", "--json").stdout)
    assert shown["folder"] == str(tmp_path / "cache")
    assert shown["kinds"]["inventory"]["entries"] >= 1
    (tmp_path / "cache" / "inventory" / "notes.txt").write_text("mine")
    assert "removed" in mace("cache", "clear").stdout
    assert json.loads(mace("cache", "list", "--json").stdout)["kinds"]["inventory"]["entries"] == 0
    assert (tmp_path / "cache" / "inventory" / "notes.txt").read_text() == "mine"


def test_a_plugin_adds_a_command(mace: Mace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "acme_tools-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mace.hooks]\nacme = acme_tools\n")
    (site / "acme_tools.py").write_text(
        "from mace_core.provider import hookimpl\n\n@hookimpl\ndef mace_register_commands(app):\n"
        "    @app.command()\n    def hello():\n        print('hello from acme')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    assert mace("hello", plugins="acme").stdout == "hello from acme\n"
    assert "hello" in mace("--help", plugins="acme").stdout


def test_options_of_providers_are_listed_given_and_checked(mace: Mace, model: Path) -> None:
    pytest.importorskip("mace_cpu")
    rows = {row["name"]: row for row in json.loads(mace("plugins", "--json", plugins="cpu").stdout)["plugins"]}
    assert "affinity" in rows["cpu"]["options"]
    assert "cpu.affinity" in mace("plugins", plugins="cpu").stdout
    options = ("--random", "--shape", "x=2x3", "--device", "cpu", "--json")
    shown = json.loads(mace("run", "model.onnx", *options, "--option", "cpu.threads=900", plugins="cpu").stdout)
    assert shown["placement"]["notes"]["cpu:0"][0].startswith("900 threads are more than")
    for wrong, message in (
        ("cpu.threads=many", "'threads' takes a whole number"),
        ("cpu.speed=9", "no option 'speed'"),
        ("threads=2", "write it PROVIDER.NAME=VALUE"),
    ):
        done = mace("run", "model.onnx", *options, "--option", wrong, plugins="cpu")
        assert done.returncode == 2
        assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("mace va", {"validate"}),
        ("mace run --devi", {"--device"}),
        ("mace run m.onnx --device ref", {"reference:0"}),
        ("mace run m.onnx --option cpu.th", {"cpu.threads="}),
    ],
)
def test_the_shell_completes_commands_options_and_devices(
    mace: Mace, monkeypatch: pytest.MonkeyPatch, words: str, offered: set[str]
) -> None:
    monkeypatch.setenv("_MACE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    done = mace(plugins="cpu,reference")
    assert offered <= set(done.stdout.split()), done.stdout + done.stderr


def test_an_empty_model_name_is_told(mace: Mace) -> None:
    done = mace("run", "", "--random")
    assert done.returncode == 2
    assert "the path of the model is empty" in done.stderr
