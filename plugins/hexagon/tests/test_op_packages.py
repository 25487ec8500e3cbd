"""Operators of one's own in QNN: the op package `mace.hvx`, built for this machine, in graphs of the emulated HTP."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hexagon_support import Array, open_backend
from mace_hexagon.hvx import LOOKUP8, build_package, lookup_table
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.custom_ops import like_first_input, unregister
from mace_core.errors import MaceError, ProviderError, StrictPlacementError, UnsupportedError, UsageError
from mace_core.provider import Device
from mace_core.tensor import DType, QuantEncoding

DEVICE = "hexagon:v75"
STEP = np.float32(0.03125)
ZEROS = {np.dtype(np.uint8): 128, np.dtype(np.int8): 3}


@pytest.fixture(scope="session")
def package(library_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package; QNN keeps it loaded for the rest of the process."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("there is no C compiler here")
    return build_package(LOOKUP8, tmp_path_factory.mktemp("package") / "libmace_hvx.so")


@pytest.fixture(autouse=True)
def lookup8() -> Iterator[None]:
    """The operator as the rest of MACE knows it: the shape of its result, and how it is computed elsewhere."""

    @mace.custom_op("mace.hvx", "Lookup8", outputs=("y",), shape=like_first_input)
    def lookup(x: Array, table: Array) -> Any:
        return table[x.astype(np.int32) - np.iinfo(x.dtype).min]

    yield
    unregister("mace.hvx", "Lookup8")


def model(shape: Sequence[int], table: Array, *, domain: str = "mace.hvx", **attributes: Any) -> onnx.ModelProto:
    """QuantizeLinear, Lookup8, DequantizeLinear; the steps of both encodings are a power of two."""
    constants = {"scale": STEP, "zero": np.array(ZEROS[table.dtype], table.dtype), "table": table}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("Lookup8", ["codes", "table"], ["found"], name="lookup", domain=domain, **attributes),
        helper.make_node("DequantizeLinear", ["found", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(made: onnx.ModelProto, package: object, **options: Any) -> mace.Session:
    """A session whose whole model is to run on the emulated HTP."""
    chosen = {"hexagon": {"op_packages": package, **options}}
    return mace.Session(made, devices=[DEVICE], strict=True, options=chosen, cache=False)


def any_table(dtype: type[np.generic]) -> Array:
    return np.random.default_rng(7).integers(0, 256, 256, np.uint8).view(dtype)


class TestRuns:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int8])
    @pytest.mark.parametrize("shape", [(1,), (257,), (3, 130), (1, 5, 7, 9), (2, 3, 64, 33)], ids=str)
    def test_inside_a_graph_of_the_emulated_htp_exactly(
        self, shape: tuple[int, ...], dtype: type[np.generic], package: Path
    ) -> None:
        table = any_table(dtype)
        codes = np.random.default_rng(8).integers(0, 256, shape, np.uint8).view(dtype)
        zero = ZEROS[np.dtype(dtype)]
        x = (codes.astype(np.float32) - zero) * STEP
        expected = (table[codes.astype(np.int32) - np.iinfo(codes.dtype).min].astype(np.float32) - zero) * STEP
        with session(model(shape, table), package, precision="float32") as opened:
            np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)
            assert opened.explain().nodes_per_device == {DEVICE: 3}

    def test_with_the_table_of_a_function(self, package: Path) -> None:
        encoding = QuantEncoding(DType.UINT8, np.array(STEP), np.array(128, np.uint8))
        table = lookup_table(np.vectorize(math.erf, otypes=[np.float32]), encoding, encoding)
        x = np.linspace(-3, 3, 193, dtype=np.float32)
        with session(model(x.shape, table), package) as opened:
            found = opened.run({"x": x})["y"]
        exact = np.array([math.erf(number) for number in x], np.float32)
        assert np.abs(found - exact).max() <= 1.2 * STEP  # half a step in, times the slope of 1.13, and half a step out

    def test_what_is_stored_is_for_this_package_alone(self, device: Device, package: Path) -> None:
        keys = set()
        for options in ({}, {"op_packages": [package]}):
            backend = open_backend(device, **options)
            keys.add(backend.compatibility_key())
            backend.close()
        assert len(keys) == 2

    def test_and_its_stored_program_is_loaded_again(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
        made, x = model((4, 40), any_table(np.uint8)), np.linspace(-4, 3.9, 160, dtype=np.float32).reshape(4, 40)
        results = []
        for said in ("compiled in", "restored from the cache"):
            options = {"hexagon": {"op_packages": str(package)}}
            with mace.Session(made, devices=[DEVICE], strict=True, options=options) as opened:
                results.append(opened.run({"x": x})["y"])
                assert said in str(opened.explain())
        np.testing.assert_array_equal(*results)


class TestDeclined:
    def test_without_the_package_the_operator_runs_where_it_is_defined(self) -> None:
        made, x = model((2, 8), any_table(np.uint8)), np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)
        with mace.Session(made, devices=[DEVICE, "cpu", "custom"], cache=False) as opened:
            opened.run({"x": x})
            assert opened.explain().nodes_per_device["custom:0"] == 1

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"domain": "mace.other"}, "does not take Lookup8"),
            ({"speed": 2}, "has attributes.*make them constant inputs"),
            ({"shape": (1, 2, 1, 2, 2)}, "does not take Lookup8"),
        ],
        ids=["another package", "attributes", "five dimensions"],
    )
    def test_what_the_package_does_not_take_has_a_reason(
        self, change: dict[str, Any], reason: str, package: Path
    ) -> None:
        if "speed" in change or "domain" in change:

            @mace.custom_op(change.get("domain", "mace.hvx"), "Lookup8", outputs=("y",), shape=first_operand)
            def lookup(x: Array, table: Array, *, speed: int = 1) -> Any:
                raise AssertionError("not run")

        shape = change.pop("shape", (2, 8))
        with pytest.raises(StrictPlacementError, match=reason):
            session(model(shape, any_table(np.uint8), **change), package)
        if "domain" in change:
            unregister(change["domain"], "Lookup8")

    def test_numbers_without_an_encoding(self, package: Path) -> None:
        ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, [4]) for name in "xy"]
        nodes = [helper.make_node("Lookup8", ["x", "table"], ["y"], domain="mace.hvx")]
        table = numpy_helper.from_array(any_table(np.uint8), "table")
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mace.hvx", 1)]
        made = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [table]), opset_imports=opsets,
                                 ir_version=8)  # fmt: skip
        with pytest.raises(StrictPlacementError, match=r"'x' is uint8 without an encoding.*QuantizeLinear"):
            session(made, package)


def first_operand(x: Any, table: Any, *, speed: int = 1) -> Any:
    """The shape of the result."""
    return x


class TestFaults:
    """Each is an error that says which file and why; nothing crashes, and what was loaded goes on working."""

    @pytest.mark.parametrize(
        ("written", "kind", "reason"),
        [
            ("{tmp}/missing.so", UsageError, "missing.so cannot be read: No such file"),
            ("{tmp}/text.so", UsageError, "text.so is not a shared library"),
            ("{tmp}/processor.so", UsageError, "processor.so is for hexagon"),
            ("{tmp}/other.so", UsageError, "other.so has no function HtpOpPackageInterfaceProvider"),
            ("{tmp}/unlinked.so", UsageError, "undefined symbol: qhpi_register_ops_v1; link it with libQnnHtp.so"),
            ("{tmp}/twin.so", ProviderError, "could not load the op package .*twin.so"),
            ("{package}:Nothing", UsageError, "was loaded before in another form"),
            ("{package}:A:B", UsageError, "PATH:PROVIDER:TARGET with the target CPU or HTP"),
            ("{package}:A:HTP", UsageError, "libmace_hvx.so is not a shared library for Hexagon"),
            ("{tmp}/processor.so:A:HTP", UnsupportedError, "could not load the op package .*processor.so"),
            ("", UsageError, "takes PATH, PATH:PROVIDER"),
            (5, UsageError, "takes paths of shared objects, not 5"),
            ([b"x"], UsageError, "takes paths of shared objects, not b'x'"),
        ],
        ids=str,
    )
    def test_of_what_was_named(
        self, written: object, kind: type[MaceError], reason: str, package: Path, tmp_path: Path
    ) -> None:
        made, x = model((2, 8), any_table(np.uint8)), np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)
        with session(made, package) as opened:
            before = opened.run({"x": x})["y"]
            self.prepare(tmp_path, package)
            named = written.format(tmp=tmp_path, package=package) if isinstance(written, str) else written
            with pytest.raises(kind, match=reason):
                session(made, named)
            np.testing.assert_array_equal(opened.run({"x": x})["y"], before)

    def prepare(self, folder: Path, package: Path) -> None:
        """Files that are no packages of this machine, each in another way."""
        (folder / "text.so").write_text("not a library")
        (folder / "processor.so").write_bytes(b"\x7fELF\x01\x01\x01" + bytes(9) + bytes([3, 0, 164, 0]) + bytes(32))
        (folder / "twin.so").write_bytes(package.read_bytes() + b" ")
        source = folder / "other.c"
        source.write_text(
            "extern int qhpi_register_ops_v1(void);\nint qhpi_init(void);\n"
            "int qhpi_init(void) { return CALL; }\nint HtpOpPackageInterfaceProvider_(void) { return 0; }\n"
        )
        compiler = next(found for name in ("cc", "gcc", "clang") if (found := shutil.which(name)))
        for name, call in (("other", "0"), ("unlinked", "qhpi_register_ops_v1()")):
            command = [compiler, "-shared", "-fPIC", f"-DCALL={call}", source, "-o", folder / f"{name}.so"]
            subprocess.run(command, check=True, timeout=300)

    def test_a_copy_is_none(self, package: Path, tmp_path: Path) -> None:
        shutil.copy(package, tmp_path / "copy.so")
        for named in (package, tmp_path / "copy.so"):
            with session(model((2, 8), any_table(np.uint8)), named) as opened:
                assert opened.explain().nodes_per_device == {DEVICE: 3}

    def test_of_a_file_that_changes(self, package: Path, tmp_path: Path) -> None:
        """In a process of its own, since QNN would keep the package here."""
        done = run_program(
            tmp_path,
            f"""
            shutil.copy({os.fspath(package)!r}, "mine.so")
            backend = HexagonProvider().open(device, {{"op_packages": "mine.so"}})
            backend.close()
            data = open("mine.so", "rb").read()
            os.remove("mine.so")
            open("mine.so", "wb").write(data + b" ")
            try:
                HexagonProvider().open(device, {{"op_packages": "mine.so"}})
            except Exception as error:
                print(error)
            """,
        )
        assert done.returncode == 0, done.stderr
        assert "mine.so was loaded before in another form, and QNN does not unload it" in done.stdout

    def test_of_ending_the_process_with_devices_open(self, package: Path, tmp_path: Path) -> None:
        """QNN itself ends with a damaged heap if a package is loaded then."""
        done = run_program(
            tmp_path,
            f"""
            plain = HexagonProvider().open(device, {{}})
            backend = HexagonProvider().open(device, {{"op_packages": {os.fspath(package)!r}}})
            """,
        )
        assert done.returncode == 0, done.stderr


def run_program(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """A program that finds ``device``, the emulated HTP v75, and what it needs imported."""
    import textwrap

    head = """
        import os, shutil
        from mace_hexagon.provider import HexagonProvider
        device = next(found for found in HexagonProvider().probe().devices if found.id == "v75")
        """
    program = textwrap.dedent(head) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300)
