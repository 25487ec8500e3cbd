"""HVX kernels of one's own: the op package `mace.hvx`, compiled for Hexagon and run on an emulated processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hexagon_machine import QEMU, Bytes, Request, build_driver, packets, run_driver, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_hexagon.hvx import LOOKUP8, Toolchain, build_package, find_toolchain, lookup_table, why_no_toolchain

from mace_core.errors import UsageError
from mace_core.tensor import DType, QuantEncoding

VECTOR = 128
SET_UP = "or run: make hvx-tools"


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """A compiler for Hexagon."""
    found = find_toolchain()
    if found is None:
        pytest.skip(f"{why_no_toolchain()}, {SET_UP}")
    return found


@pytest.fixture(scope="session")
def vector_program(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for HVX, with the driver."""
    if QEMU is None:
        pytest.skip(
            f"there is no qemu-hexagon here: install qemu-user (on Debian: apt-get install qemu-user), {SET_UP}"
        )
    return build_driver(toolchain, LOOKUP8, tmp_path_factory.mktemp("hvx"), hvx=True)


@pytest.fixture(scope="session")
def scalar_program(vector_program: Path, toolchain: Toolchain) -> Path:
    """The same package compiled without HVX."""
    return build_driver(toolchain, LOOKUP8, vector_program.parent, hvx=False)


def codes(dtype: type[np.uint8 | np.int8], count: int, seed: int) -> Bytes:
    """Any numbers."""
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).view(dtype)


requests = st.builds(
    lambda dtype, count, seed, slices, shifts: Request(
        codes(dtype, count, seed), codes(dtype, 256, ~seed & 0xFFFF), slices, *shifts
    ),
    st.sampled_from([np.uint8, np.int8]),
    st.integers(0, 700) | st.sampled_from([VECTOR - 1, VECTOR, VECTOR + 1, 2 * VECTOR, 16 * VECTOR - 1, 5000]),
    st.integers(0, 0xFFFF),
    st.integers(1, 6),
    st.tuples(st.integers(0, VECTOR - 1), st.integers(0, VECTOR - 1)),
)


class TestKernel:
    @settings(max_examples=20)
    @given(st.lists(requests, min_size=1, max_size=16))
    def test_is_exact_for_any_length_alignment_and_number_of_threads(
        self, vector_program: Path, batch: list[Request]
    ) -> None:
        for request, answer in zip(batch, run_driver(vector_program, batch), strict=True):
            assert answer.status == 0
            assert answer.kept_inside, "bytes around the output were written"
            np.testing.assert_array_equal(
                answer.data, request.table[request.data.astype(np.int32) - np.iinfo(request.data.dtype).min]
            )

    def test_refuses_a_table_that_is_not_whole(self, vector_program: Path) -> None:
        request = Request(codes(np.uint8, 300, 1), codes(np.uint8, 255, 2))
        (answer,) = run_driver(vector_program, [request])
        assert answer.status != 0

    def test_vectors_take_a_fraction_of_the_packets(
        self, vector_program: Path, scalar_program: Path, tmp_path: Path
    ) -> None:
        """Differences of two lengths: what is done once per call falls out.  Counts, not times."""

        def per_vector(program: Path) -> float:
            table = codes(np.uint8, 256, 3)
            short, long = (
                packets(program, Request(codes(np.uint8, vectors * VECTOR, 4), table), tmp_path) for vectors in (8, 24)
            )
            inside = ("run", "lookup8")
            return sum(long.get(name, 0) - short.get(name, 0) for name in inside) / 16

        vectors, scalars = per_vector(vector_program), per_vector(scalar_program)
        assert 8 <= vectors <= 16  # eight are look-ups
        assert scalars >= VECTOR
        assert scalars / vectors >= 12


class TestTable:
    @pytest.mark.parametrize("dtype", [DType.UINT8, DType.INT8])
    @pytest.mark.parametrize("operator", ["Erf", "Tanh", "Sigmoid", "Tan"])
    def test_holds_what_onnxruntime_computes(self, operator: str, dtype: DType, vector_program: Path) -> None:
        import math

        import onnxruntime
        from onnx import helper, numpy_helper

        functions = {"Erf": math.erf, "Tanh": math.tanh, "Sigmoid": lambda x: 1 / (1 + math.exp(-x)), "Tan": math.tan}
        function = np.vectorize(functions[operator], otypes=[np.float32])
        zeros = (140, 128) if dtype is DType.UINT8 else (12, -3)
        scales = (np.float32(0.011), np.float32(0.0173))
        encodings = [
            QuantEncoding(dtype, np.array(s), np.array(z, dtype.numpy)) for s, z in zip(scales, zeros, strict=True)
        ]
        constants = [numpy_helper.from_array(e.scale, f"s{i}") for i, e in enumerate(encodings)]
        constants += [numpy_helper.from_array(e.zero_point, f"z{i}") for i, e in enumerate(encodings)]
        x = np.arange(256, dtype=np.uint8).view(dtype.numpy)
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "s0", "z0"], ["a"]),
            helper.make_node(operator, ["a"], ["b"]),
            helper.make_node("QuantizeLinear", ["b", "s1", "z1"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(name, kind, [256]) for name in "xy"]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": x})

        table = lookup_table(function, *encodings)
        (answer,) = run_driver(vector_program, [Request(x, table)])
        steps = np.abs(answer.data.astype(np.int32) - expected.astype(np.int32))
        assert steps.max() <= 1
        assert np.count_nonzero(steps) <= 2  # results halfway between two codes

    def test_needs_encodings_of_one_type(self) -> None:
        unsigned = QuantEncoding(DType.UINT8, np.float32(1), np.uint8(0))
        signed = QuantEncoding(DType.INT8, np.float32(1), np.int8(0))
        with pytest.raises(ValueError, match="same 8-bit type"):
            lookup_table(np.sqrt, unsigned, signed)


class TestPackage:
    @pytest.mark.parametrize("arch", ["v66", "v68"])
    def test_for_the_processor_takes_nothing_but_the_plugin_interface(
        self, arch: str, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        wanted, offered = symbols(build_package(LOOKUP8, tmp_path / "package.so", arch))
        assert wanted and all(name.startswith("qhpi_") for name in wanted)
        assert offered == {"HtpOpPackageInterfaceProvider", "qhpi_init"}

    def test_faults_in_a_source_are_the_compilers_own_words(self, toolchain: Toolchain, tmp_path: Path) -> None:
        source = tmp_path / "wrong.c"
        source.write_text('#include "htp_op_package.h"\nint f(void) { return nothing; }\n')
        with pytest.raises(UsageError, match=r"could not compile .*wrong\.c.*nothing"):
            build_package([source], tmp_path / "package.so", "v68")
        assert list(tmp_path.iterdir()) == [source]

    @pytest.mark.parametrize(
        ("source", "target", "reason"),
        [("missing.c", "v68", "no source file .*missing.c"), ("here.c", "75", "'host' or an architecture")],
    )
    def test_wrong_requests_are_refused(self, source: str, target: str, reason: str, tmp_path: Path) -> None:
        (tmp_path / "here.c").touch()
        with pytest.raises(UsageError, match=reason):
            build_package([tmp_path / source], tmp_path / "package.so", target)

    def test_a_missing_compiler_is_told_with_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MACE_HEXAGON_CLANG", "/nowhere/clang")
        with pytest.raises(UsageError, match=r"MACE_HEXAGON_CLANG=/nowhere/clang is no clang.*ziglang"):
            build_package(LOOKUP8, tmp_path / "package.so", "v68")
