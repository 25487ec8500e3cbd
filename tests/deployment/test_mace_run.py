"""`mace_run`: MACE's flags in the manner of gflags, raw files, and the table that other programs read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.cli.mace_run import main
from mace_core.cli.main import main as mace
from mace_core.deployment import running
from mace_core.deployment.gflags import Flag, parse
from mace_core.deployment.mace_run_flags import FLAGS
from mace_core.deployment.running import file_name
from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.storing import store_model

from .conftest import INPUT, OUTPUT

LINE = "=" * 56
TABLE = re.compile(
    rf"{LINE}\n     capability\(CPU\)        init      warmup     run_avg\n{LINE}\n"
    r"time +[\d.]+ +[\d.]+ +[\d.]+ +-?[\d.]+\n"
)
SHAPES = [f"--input_node={INPUT}", "--input_shape=1,48,192,3", f"--output_node={OUTPUT}", "--output_shape=1,2"]
KNOWN = (Flag("name", "", "a text"), Flag("round", 1, "a number"), Flag("on", False, "a switch"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("", 1, False)),
        (["--name=a=b", "--round", "7", "-on"], ("a=b", 7, True)),
        (["-name", "x", "--noon", "-round=-2"], ("x", -2, False)),
        (["--on=true", "--on=false", "--name=1", "--name="], ("", 1, False)),
        (["--on", "--round=3", "--"], ("", 3, True)),
    ],
)
def test_flags_are_those_of_gflags(words: list[str], expected: tuple[str, int, bool]) -> None:
    flags = parse(words, KNOWN)
    assert (flags.text("name"), flags.number("round"), flags.is_on("on")) == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nam=x"], "there is no flag --nam; did you mean --name?"),
        (["--round=x"], "--round=x: it is a whole number"),
        (["--round"], "--round has no value"),
        (["--on=maybe"], "--on=maybe: it is true or false"),
        (["word"], "'word' is no flag"),
        (["--noround"], "there is no flag --noround; did you mean --round?"),
        (["--flagfile=none"], "--flagfile=none: there is no such file"),
    ],
)
def test_wrong_flags_are_told(words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        parse(words, KNOWN)


@given(st.lists(st.text(max_size=20), max_size=6))
def test_any_words_are_flags_or_an_error(words: list[str]) -> None:
    try:
        parse(words, FLAGS)
    except UsageError as error:
        assert str(error)


def test_flags_come_from_files(folder: Path) -> None:
    (folder / "flags").write_text("# a comment\n--round=4\n\n-on\n", encoding="utf-8")
    flags = parse(["--flagfile=flags", "--name=x"], KNOWN)
    assert (flags.number("round"), flags.is_on("on"), flags.given) == (4, True, {"round", "on", "name"})
    (folder / "flags").write_text("--flagfile=flags\n", encoding="utf-8")
    with pytest.raises(UsageError, match="name each other more than 8 deep"):
        parse(["--flagfile=flags"], KNOWN)


def test_raw_files_go_in_and_out(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NHWC in the file, NCHW in the model; the table is what MACE's tools look for."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 48, 192, 3)).astype(np.float32)
    x.tofile("in_x")
    code = main(
        [f"--model_file={model}", *SHAPES, "--input_file=in", "--output_file=out", "--round=2", "-num_threads=1"]
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert TABLE.fullmatch(printed.out), printed.out
    assert "I mace_run: num_threads: 1" in printed.err
    with Session(model, devices=["cpu"]) as session:
        expected = session.run({INPUT: x.transpose(0, 3, 1, 2)})[OUTPUT]
    found = np.fromfile(f"out_{file_name(OUTPUT)}", np.float32).reshape(1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_folder_of_inputs_becomes_one_of_outputs(model: Path, folder: Path) -> None:
    (folder / "samples").mkdir()
    for number in range(3):
        np.full((1, 48, 192, 3), number / 3, np.float32).tofile(folder / "samples" / f"x_{number}.bin")
    assert main([f"--model_file={model}", *SHAPES, "--input_dir=samples", "--output_dir=results"]) == 0
    names = sorted(path.name for path in (folder / "results").iterdir())
    assert names == [f"{file_name(OUTPUT)}_{number}.bin" for number in range(3)]
    values = [np.fromfile(folder / "results" / name, np.float32) for name in names]
    assert len({value.tobytes() for value in values}) == 3


def test_a_scalar_stays_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In raw files, in samples, and in the converted model; an int32 of the file is an int64 of the model."""
    pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
        helper.make_tensor_value_info("s", TensorProto.INT64, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3]),
    ]
    nodes = [helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT), helper.make_node("Mul", ["x", "f"], ["y"])]
    graph = helper.make_graph(nodes, "scaled", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "scaled.onnx")
    keys = {"input_tensors": ["x", "s"], "input_shapes": ["2,3", ""], "input_data_types": ["float32", "int32"]}
    keys |= {"output_tensors": "y", "output_shapes": "2,3"}
    model = {"platform": "onnx", "model_file_path": "scaled.onnx", "subgraphs": [keys], "runtime": "cpu"}
    content = {"library_name": "scaled", "target_abis": "arm64-v8a", "models": {"scaled": model}}
    (folder / "scaled.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert mace(["convert", "scaled.yml", "--no-libraries"]) == 0
    np.arange(6, dtype=np.float32).tofile("in_x")
    np.array(7, np.int32).tofile("in_s")
    assert main(["--model_name=scaled", "--input_file=in", "--output_file=out", "--round=1"]) == 0
    assert np.fromfile("out_y", np.float32).tolist() == [0.0, 7.0, 14.0, 21.0, 28.0, 35.0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--round=1"], "there is no model: write --model_file="),
        (["--model_name=mobilenet_v1"], "there is none at build/*/model/mobilenet_v1.mace"),
        (["--model_name=../x"], "it is the name of a model in a deployment file"),
        (["--model_file=none.mace"], "none.mace"),
        (["--model_file=MODEL"], "--input_shape is needed: the input 'x: float32[?, 3, ?, ?]' has free dimensions"),
        (["--model_file=MODEL", "--input_node=y"], "--input_node: the model has no 'y'"),
        (["--model_file=MODEL", "--input_shape=1,48,192,4"], "--input_shape: 1,48,192,4 does not fit the input"),
        (["--model_file=MODEL", "--input_shape=1,48,192,3:1"], "--input_shape has 2 entries, and the model has 1"),
        (["--model_file=MODEL", *SHAPES, "--input_file=none"], "there is no file 'none_x'"),
        (["--model_file=MODEL", *SHAPES, "--input_file=short"], "'short_x' has 4 bytes, and 110592 make float32"),
        (["--model_file=MODEL", *SHAPES, "--input_dir=none"], "--input_dir=none: it cannot be read"),
        (["--model_file=MODEL", "--input_data_type=float99", *SHAPES], "'float99' is not one of float32"),
        (["--model_file=MODEL", *SHAPES, "--cpu_affinity_policy=9"], "it is 0 to 4"),
    ],
)
def test_what_does_not_fit_is_told(
    model: Path, folder: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "short_x").write_bytes(bytes(4))
    assert main([word.replace("MODEL", model.name) for word in words]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("mace_run: error: ")
    assert told in printed.err.splitlines()[-1]
    assert printed.out == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"options": {"cpu": {"winograd": false, "threads": 99}, "hexagon": {"library_dir": "."}}}', ""),
        ("[1]", "its metadata 'mace.deployment' is in no form that is known: convert it again"),
        ("[" * 100_000, "its metadata 'mace.deployment' is in no form that is known: convert it again"),
    ],
)
def test_a_package_chooses_how_it_is_computed_and_nothing_else(
    said: str, told: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it says of other options is not taken: one that names a library would have it loaded."""
    graph = load_model(model)
    graph.metadata["mace.deployment"] = said
    store_model(graph, "said.mace")
    given: list[object] = []

    def opened(*words: Any, options: object, **others: Any) -> Session:
        given.append(options)
        return Session(*words, **others)

    monkeypatch.setattr(running, "Session", opened)
    assert main(["--model_file=said.mace", *SHAPES, "--round=1"]) == (1 if told else 0)
    assert told in capsys.readouterr().err
    assert given == ([] if told else [{"cpu": {"winograd": False}}])


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for flag in FLAGS:
        assert f"  --{flag.name} (" in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_that_cannot_be_written_is_an_error(flag: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mace_core.cli.mace_run", flag]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "mace_run: error: standard output cannot be written: No space left on device\n"


@pytest.mark.full
def test_without_standard_streams_it_says_so_or_works(model: Path, folder: Path) -> None:
    shape = "--input_node=x --input_shape=1,48,192,3 --round=1"
    command = f"{sys.executable} -m mace_core.cli.mace_run --model_file={model.name} {shape}"
    closed = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert closed.returncode == 1
    assert closed.stderr == "mace_run: error: standard output is closed: send it to /dev/null if it is not wanted\n"
    quiet = subprocess.run(["sh", "-c", f"{command} 2>&-"], capture_output=True, text=True, check=False)
    assert quiet.returncode == 0
    assert "run_avg" in quiet.stdout
    full = subprocess.run(["sh", "-c", f"{command} >/dev/full"], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1] == "mace_run: error: standard output cannot be written: No space left on device"
