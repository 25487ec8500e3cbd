"""Bad input: one clear line on standard error, the right exit code, no traceback, nothing on standard output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

Mace = Callable[..., "subprocess.CompletedProcess[str]"]


IN_THE_LOOP_SECONDS = 1.5
"""Of the processor: a command that has used so much has begun to run its model."""


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("mace: error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def save(path: Path, nodes: list[onnx.NodeProto], *, opsets: dict[str, int] | None = None, **tensors: object) -> None:
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        initializer=tensors.get("initializer", []),  # type: ignore[arg-type]
    )
    ids = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    path.write_bytes(helper.make_model(graph, opset_imports=ids, ir_version=8).SerializeToString())


def external(location: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def bad_model(path: Path, kind: str) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    add = helper.make_node("Add", ["x", "w"], ["y"], name="sum")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "random bytes":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    elif kind == "truncated":
        save(path, [relu])
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "cycle":
        first = helper.make_node("Add", ["x", "b"], ["a"], name="first")
        save(path, [first, helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])])
    elif kind == "undefined tensor":
        save(path, [helper.make_node("Add", ["x", "nowhere"], ["y"], name="sum")])
    elif kind == "missing external data":
        save(path, [add], initializer=[external("weights.bin")])
    elif kind == "external data outside":
        (path.parent.parent / "secret.bin").write_bytes(bytes(12))
        save(path, [add], initializer=[external("../secret.bin")])
    elif kind == "unknown op":
        save(path, [helper.make_node("Frobnicate", ["x"], ["y"], name="frob")])
    elif kind == "unknown domain":
        save(path, [helper.make_node("Relu", ["x"], ["y"], domain="com.acme")], opsets={"": 17, "com.acme": 1})
    elif kind == "newer opset":
        save(path, [relu], opsets={"": 999})
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", ["bad.onnx"]),
        ("empty", ["bad.onnx", "empty"]),
        ("folder", ["bad.onnx", "folder"]),
        ("random bytes", ["bad.onnx"]),
        ("truncated", ["bad.onnx"]),
        ("cycle", ["cycle"]),
        ("undefined tensor", ["nowhere", "sum"]),
        ("missing external data", ["weights.bin"]),
        ("external data outside", ["secret.bin"]),
        ("unknown op", ["Frobnicate"]),
        ("unknown domain", ["com.acme"]),
        ("newer opset", ["999"]),
    ],
)
def test_a_bad_model_is_one_clear_error(mace: Mace, tmp_path: Path, kind: str, words: list[str]) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    bad_model(folder / "bad.onnx", kind)
    code = 2 if kind in ("missing", "folder", "missing external data") else 1
    refused(mace("run", "models/bad.onnx", "--random"), code, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["'x: float32[n, 3]'", "--input x=FILE", "--random"]),
        (["--input", "z=a.npy"], ["no input 'z'", "x: float32[n, 3]"]),
        (["--input", "x=missing.npy"], ["missing.npy"]),
        (["--input", "x=text.txt"], ["text.txt", ".npy"]),
        (["--input", "x=damaged.npy"], ["damaged.npy"]),
        (["--input", "x=objects.npy"], ["objects.npy"]),
        (["--input", "x=int.npy"], ["x", "float32", "int64"]),
        (["--input", "x=wide.npy"], ["x", "[n, 3]"]),
        (["--random", "--shape", "x=1x4"], ["--shape x=1x4", "float32[n, 3]"]),
        (["--random", "--shape", "banana"], ["banana"]),
        (["--random", "--shape", "1000000000000x3"], ["too large"]),
        (["--random", "--device", "referense"], ["did you mean 'reference'"]),
        (["--random", "--device", "reference:7"], ["reference:0"]),
        (["--random", "--pin", "product"], ["NODE=DEVICE"]),
        (["--random", "--pin", "nothing=reference"], ["nothing"]),
        (["--random", "--threads", "many"], ["--threads"]),
        (["--random", "--color"], ["--color", "mace run --help"]),
        (["--random", "--layout", "CHNW"], ["NCHW"]),
        (["--random", "--mean", "a,b"], ["--mean"]),
        (["--random", "--output-dir", "model.onnx"], ["model.onnx"]),
    ],
)
def test_wrong_usage_is_one_clear_error(
    mace: Mace, model: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    np.save(tmp_path / "int.npy", np.zeros((1, 3), np.int64))
    np.save(tmp_path / "wide.npy", np.zeros((1, 5), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00garbage")
    (tmp_path / "text.txt").write_text("1 2 3")
    refused(mace("run", "model.onnx", *arguments), 2, *words)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"not a picture"])
def test_a_bad_picture_is_one_clear_error(mace: Mace, picture_model: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.png").write_bytes(content)
    refused(mace("run", "picture.onnx", "--input", "p.png"), 2, "p.png")


def test_a_model_that_takes_no_picture_says_so(mace: Mace, model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    refused(mace("run", "model.onnx", "-i", "p.png"), 2, "2 dimensions")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["run"], ["devices", "--bad"]])
def test_an_unknown_command_or_option_points_to_help(mace: Mace, arguments: list[str]) -> None:
    refused(mace(*arguments), 2, "--help")


@pytest.mark.parametrize("arguments", [[], ["cache"]])
def test_no_command_shows_the_help(mace: Mace, arguments: list[str]) -> None:
    done = mace(*arguments)
    assert done.returncode == 2
    assert "Commands" in done.stdout + done.stderr


def test_strict_lists_the_nodes_and_reasons(mace: Mace, model: Path, tmp_path: Path) -> None:
    bad_model(tmp_path / "bad.onnx", "unknown op")
    done = mace("run", "bad.onnx", "--random", "--strict", "--device", "reference")
    refused(done, 1, "Frobnicate")


def test_a_damaged_cache_is_built_again(mace: Mace, model: Path, tmp_path: Path) -> None:
    first = mace("run", "model.onnx", "--random", "--json")
    entries = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert entries
    for path in entries:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    second = mace("run", "model.onnx", "--random", "--json")
    assert second.returncode == 0, second.stderr
    assert first.stdout.split('"outputs"')[1] == second.stdout.split('"outputs"')[1]


def test_debug_shows_the_traceback(mace: Mace) -> None:
    done = mace("run", "missing.onnx", "--random", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_defect_is_called_one_and_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys\nimport mace_core.caching.cache\nfrom mace_core.cli.main import main\n"
        "def broken(): raise ZeroDivisionError('oops')\nmace_core.caching.cache.cache_dir = broken\n"
        "sys.exit(main(['cache', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "mace: error: ZeroDivisionError: oops - this is a defect; run again with --debug for the details\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["run model.onnx --random", "explain model.onnx --json", "--help", "--version"])
def test_output_that_cannot_be_written_is_no_defect(mace: Mace, model: Path, tmp_path: Path, arguments: str) -> None:
    command = (
        f"{sys.executable} -m mace_core.cli.main {arguments} -q"
        if arguments[0] != "-"
        else (f"{sys.executable} -m mace_core.cli.main {arguments}")
    )
    mace("--version")  # sets the environment
    full = subprocess.run(["sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, cwd=tmp_path)
    assert full.returncode == 1
    assert full.stderr == "mace: error: standard output cannot be written: No space left on device\n"
    closed = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, text=True, cwd=tmp_path)
    assert closed.returncode == 1
    assert closed.stderr == "mace: error: standard output is closed: send it to /dev/null if it is not wanted\n"


def test_a_model_is_not_written_into_when_standard_error_is_closed(mace: Mace, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    mace("--version")
    command = f"{sys.executable} -m mace_core.cli.main run model.onnx --random --device zap <&- 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert model.read_bytes() == before


def test_names_that_the_terminal_has_no_letters_for_are_printed(mace: Mace, tmp_path: Path) -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "ausgäbe→")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["ausgäbe→"])], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    mace("--version")
    command = [sys.executable, "-m", "mace_core.cli.main", "run", "n.onnx", "--random"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "ausg\\xe4be\\u2192" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("arguments", [("--help",), ("benchmark", "model.onnx", "--runs", "2")])
def test_ctrl_c_at_any_moment_shows_no_traceback(
    mace: Mace, model: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """From the moment on that the entry runs: what Python does before is not ours.  Children get the signal too."""
    mace("--version")
    start = "import sys, mace_core.cli.main as m; print('go', flush=True); sys.argv[1:] = {!r}; sys.exit(m.main())"
    for delay in (0.0, 0.02, 0.06, 0.12, 0.25, 0.5, 1.0):
        running = subprocess.Popen(
            [sys.executable, "-c", start.format(list(arguments))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "go\n"
        time.sleep(delay + 0.005)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
        # by then Python may have given its handler back: the signal ends the process, which a shell reports as 130 too
        assert running.returncode in (0, 130, -signal.SIGINT), errors
        assert "Traceback" not in errors and "defect" not in errors and "KeyboardInterrupt" not in errors, errors


def test_output_into_a_closed_pipe_is_quiet(mace: Mace, model: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m mace_core.cli.main devices --json | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_ends_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that would run for hours is interrupted."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Add", ["s_in", "one"], ["s_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_in", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_out", TensorProto.FLOAT, []),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["many", "yes", "x"], ["y"], name="loop", body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [
            helper.make_tensor("many", TensorProto.INT64, [], [2**29]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        ],
    )
    path = tmp_path / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MACE_PLUGINS", "reference")
    command = [sys.executable, "-m", "mace_core.cli.main", "--verbose", "run", str(path), "--random"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watched = psutil.Process(running.pid)
    while running.poll() is None and watched.cpu_times().user < IN_THE_LOOP_SECONDS:
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=240)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert "mace: stopped" in err
    assert out == ""
