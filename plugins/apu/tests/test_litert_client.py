"""A client that nobody here wrote, LiteRT's compiler plugin for MediaTek, compiles models with the stand-in.

It shows that structures, numbers of types and operations, and the order of arguments are those of the real interface: a
stand-in with one structure written wrongly is refused by it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apu_support import build

SHAPE = (1, 8, 8, 3)
CHANNELS = 4


def package() -> Path | None:
    """The folder of ai-edge-litert, where it brings the plugin and the program that drives it."""
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder if plugin(folder).is_file() and (folder / "tools" / "apply_plugin_main").is_file() else None


def plugin(folder: Path) -> Path:
    """LiteRT's compiler plugin for MediaTek."""
    return folder / "vendors" / "mediatek" / "compiler" / "libLiteRtCompilerPlugin_MediaTek.so"


pytestmark = pytest.mark.skipif(
    package() is None or importlib.util.find_spec("flatbuffers") is None,
    reason="LiteRT with its plugin for MediaTek is not here: pip install --no-deps ai-edge-litert, and flatbuffers",
)


def tflite_model() -> bytes:
    """x (1, 8, 8, 3) -> CONV_2D 3x3 with RELU6 -> ADD of itself -> (1, 8, 8, 4), in float32."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(0)
    filters = rng.standard_normal((CHANNELS, 3, 3, SHAPE[3])).astype(np.float32)
    bias = rng.standard_normal(CHANNELS).astype(np.float32)
    result = (*SHAPE[:3], CHANNELS)
    buffers: list[Any] = [schema.BufferT()]
    tensors: list[Any] = []

    def tensor(name: str, shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), schema.TensorType.FLOAT32, 0
        if data is not None:
            content = schema.BufferT()
            content.data = np.frombuffer(data.tobytes(), np.uint8)
            buffers.append(content)
            made.buffer = len(buffers) - 1
        tensors.append(made)
        return len(tensors) - 1

    def operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    def code(builtin: int) -> Any:
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = builtin, builtin, 1
        return made

    x = tensor("x", SHAPE)
    weights, offsets = tensor("filters", filters.shape, filters), tensor("bias", bias.shape, bias)
    convolved, y = tensor("convolved", result), tensor("y", result)
    convolution, addition = schema.Conv2DOptionsT(), schema.AddOptionsT()
    convolution.padding, convolution.strideW, convolution.strideH = schema.Padding.SAME, 1, 1
    convolution.dilationWFactor, convolution.dilationHFactor = 1, 1
    convolution.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.name = tensors, [x], [y], b"main"
    graph.operators = [
        operator(0, [x, weights, offsets], convolved, schema.BuiltinOptions.Conv2DOptions, convolution),
        operator(1, [convolved, convolved], y, schema.BuiltinOptions.AddOptions, addition),
    ]
    model = schema.ModelT()
    model.version, model.description = 3, b"test"
    model.operatorCodes = [code(schema.BuiltinOperator.CONV_2D), code(schema.BuiltinOperator.ADD)]
    model.subgraphs, model.buffers = [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class Compiled:
    """What LiteRT's program did: whether it ended well, what it printed, the functions it called, its result."""

    def __init__(self, folder: Path, libraries: Path, **environment: str) -> None:
        found = package()
        assert found is not None
        program = folder / "apply_plugin_main"
        shutil.copy(found / "tools" / "apply_plugin_main", program)
        program.chmod(0o755)
        model, self.output, log = folder / "model.tflite", folder / "compiled.tflite", folder / "calls"
        model.write_bytes(tflite_model())
        done = subprocess.run(
            [
                *(program, "--cmd=apply", f"--model={model}", f"--o={self.output}"),
                *("--soc_manufacturer=MediaTek", "--soc_model=mt6989", f"--libs={plugin(found).parent}"),
            ],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(libraries),
                "NEURON_STAND_IN_LOG": str(log),
                "NEURON_STAND_IN_VERBOSE": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.code = done.returncode
        self.text = done.stdout + done.stderr
        self.calls = log.read_text().split() if log.is_file() else []

    @property
    def holds_a_compiled_network(self) -> bool:
        """Whether the result has what the stand-in stored in it."""
        return self.output.is_file() and b"NeuronStandIn 1" in self.output.read_bytes()


def test_it_compiles_a_model_through_the_whole_interface(stand_in_folder: Path, tmp_path: Path) -> None:
    done = Compiled(tmp_path, stand_in_folder)
    assert done.code == 0, done.text
    assert {
        *("Neuron_getVersion", "NeuronModel_create", "NeuronModel_addOperand", "NeuronModel_setOperandValue"),
        *("NeuronModel_addOperation", "NeuronModel_identifyInputsAndOutputs", "NeuronModel_finish"),
        *("NeuronModel_relaxComputationFloat32toFloat16", "NeuronCompilation_createWithOptions"),
        *("NeuronCompilation_finish", "NeuronCompilation_getCompiledNetworkSize"),
        "NeuronCompilation_storeCompiledNetwork",
    } <= set(done.calls)
    assert done.calls.count("NeuronModel_addOperation") == 2
    assert done.holds_a_compiled_network


def test_a_structure_written_wrongly_is_noticed(stand_in_folder: Path, tmp_path: Path) -> None:
    done = Compiled(tmp_path, build("-DWRONG_STRUCT"))
    assert "NeuronModel_addOperand" in done.calls
    assert "Neuron stand-in: " in done.text
    assert not done.holds_a_compiled_network


def test_a_call_that_fails_is_noticed(stand_in_folder: Path, tmp_path: Path) -> None:
    done = Compiled(tmp_path, stand_in_folder, NEURON_STAND_IN_FAIL="NeuronCompilation_finish:5")
    assert "NeuronCompilation_finish" not in done.calls  # a call that is told to fail is not logged
    assert "told to fail (5)" in done.text
    assert not done.holds_a_compiled_network
