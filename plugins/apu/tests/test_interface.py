"""The binding, call by call, and that the stand-in checks what it is given."""

from __future__ import annotations

import ctypes as c
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from apu_support import StandIn, open_backend
from mace_apu.backend import ApuBackend
from mace_apu.neuron.constants import OperandCode, Operation, Priority, Result
from mace_apu.neuron.handles import NeuronCompilation, NeuronExecution, NeuronMemory, NeuronModel
from mace_apu.neuron.types import FUNCTIONS

from mace_core.errors import ProviderBugError, ProviderError, UnsupportedError
from mace_core.provider import Device

FLOATS, INTS = OperandCode.TENSOR_FLOAT32, OperandCode.TENSOR_INT32
SIGNED, CHANNELS = OperandCode.TENSOR_QUANT8_ASYMM_SIGNED, OperandCode.TENSOR_QUANT8_SYMM_PER_CHANNEL


@pytest.fixture
def opened(device: Device, stand_in: StandIn) -> Iterator[ApuBackend]:
    """The backend; all objects of the library are gone at the end."""
    before = stand_in.live
    backend = open_backend(device)
    yield backend
    backend.close()
    assert stand_in.live == before


@pytest.fixture
def model(opened: ApuBackend) -> Iterator[NeuronModel]:
    """An empty model."""
    made = NeuronModel(opened.devices)
    yield made
    made.close()


def sum_of_two(model: NeuronModel, length: int = 4) -> None:
    """Inputs 0 and 1, output 3."""
    for name in ("x", "y"):
        model.add_operand(name, FLOATS, (length,))
    fuse = model.add_operand("fuse", OperandCode.INT32, ())
    model.set_value("fuse", fuse, np.int32([0])[0:1].reshape(()))
    total = model.add_operand("sum", FLOATS, (length,))
    model.add_operation("add", Operation.ADD, [0, 1, fuse], [total])
    model.identify([0, 1], [total])


def test_every_function_is_there(stand_in: StandIn) -> None:
    library = c.CDLL(str(stand_in.path))
    assert [name for name in FUNCTIONS if not hasattr(library, name)] == []


def test_hints_and_a_run_in_the_background(model: NeuronModel) -> None:
    sum_of_two(model)
    model.finish()
    compilation = NeuronCompilation(model)
    compilation.set_priority(Priority.HIGH)
    compilation.hint(3)
    compilation.options("--opt 3")
    compilation.finish()
    execution = NeuronExecution(compilation)
    x, y, total = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1]), np.zeros(4, np.float32)
    execution.set_input(0, x.ctypes.data, x.nbytes)
    execution.set_input(1, y.ctypes.data, y.nbytes)
    execution.set_output(0, total.ctypes.data, total.nbytes)
    event = execution.start()
    event.wait()
    event.close()
    np.testing.assert_array_equal(total, x + y)
    execution.close()
    compilation.close()


def test_memory_of_a_descriptor_is_read_and_written_where_it_lies(model: NeuronModel, tmp_path: Path) -> None:
    sum_of_two(model)
    model.finish()
    compilation = NeuronCompilation(model)
    compilation.finish()
    execution = NeuronExecution(compilation)
    path = tmp_path / "memory"
    path.write_bytes(np.arange(1024, dtype=np.float32).tobytes())
    with path.open("r+b") as file:
        memory = NeuronMemory(model.devices, file.fileno(), 4096, mmap.PROT_READ | mmap.PROT_WRITE)
        execution.set_input_memory(0, memory, 16, 16)
        execution.set_input_memory(1, memory, 32, 16)
        execution.set_output_memory(0, memory, 48, 16)
        execution.compute()
        with pytest.raises(UnsupportedError, match="take input 0: it returns NEURON_BAD_DATA"):
            execution.set_input_memory(0, memory, 4090, 16)
        execution.close()
        memory.close()
    found = np.frombuffer(path.read_bytes(), np.float32)
    np.testing.assert_array_equal(found[12:16], [12, 14, 16, 18])
    with pytest.raises(ProviderError, match="take a memory: it returns NEURON_UNMAPPABLE"):
        NeuronMemory(model.devices, os.open("/", os.O_RDONLY), 4096, mmap.PROT_READ)
    compilation.close()


class TestTheStandInRefuses:
    def test_what_is_added_after_the_end(self, model: NeuronModel) -> None:
        sum_of_two(model)
        model.finish()
        with pytest.raises(ProviderError, match="BAD_STATE"):
            model.add_operand("late", FLOATS, (1,))
        with pytest.raises(ProviderError, match="BAD_STATE"):
            model.finish()

    def test_an_operand_that_is_input_and_output(self, model: NeuronModel) -> None:
        operand = model.add_operand("x", FLOATS, (1,))
        with pytest.raises(UnsupportedError, match="BAD_DATA"):
            model.identify([operand], [operand])

    @pytest.mark.parametrize(
        ("code", "shape", "scale", "zero_point"),
        [
            (OperandCode.INT32, (1,), 0.0, 0),  # a scalar has no dimensions
            (FLOATS, (), 0.0, 0),  # a tensor has
            (FLOATS, (2, 0), 0.0, 0),
            (FLOATS, (2,), 0.5, 0),  # only quantized numbers have a scale
            (SIGNED, (2,), 0.0, 0),
            (SIGNED, (2,), 0.5, 200),
            (CHANNELS, (2,), 0.0, 3),
        ],
    )
    def test_an_operand_that_cannot_be(
        self, model: NeuronModel, code: OperandCode, shape: tuple[int, ...], scale: float, zero_point: int
    ) -> None:
        with pytest.raises(UnsupportedError, match="add operand 'x': it returns NEURON_BAD_DATA"):
            model.add_operand("x", code, shape, scale, zero_point)

    def test_scales_that_do_not_fit(self, model: NeuronModel) -> None:
        operand = model.add_operand("w", CHANNELS, (3, 1, 1, 2))
        for axis, scales in ((0, [1.0]), (0, [1.0, 1.0, -1.0]), (4, [1.0])):
            with pytest.raises(UnsupportedError, match="BAD_DATA"):
                model.set_channel_scales("w", operand, axis, np.float32(scales))
        model.set_channel_scales("w", operand, 0, np.float32([1.0, 2.0, 3.0]))

    def test_a_value_of_another_size(self, model: NeuronModel) -> None:
        operand = model.add_operand("x", FLOATS, (4,))
        with pytest.raises(UnsupportedError, match="BAD_DATA"):
            model.set_value("x", operand, np.zeros(3, np.float32))

    def test_a_result_of_another_shape(self, model: NeuronModel) -> None:
        x = model.add_operand("x", FLOATS, (4,))
        y = model.add_operand("y", FLOATS, (5,))
        model.add_operation("relu", Operation.RELU, [x], [y])
        model.identify([x], [y])
        with pytest.raises(UnsupportedError, match="finish a model: it returns NEURON_BAD_DATA"):
            model.finish()

    def test_operations_in_the_wrong_order(self, model: NeuronModel) -> None:
        x, y, z = (model.add_operand(name, FLOATS, (4,)) for name in "xyz")
        model.add_operation("second", Operation.RELU, [y], [z])
        model.add_operation("first", Operation.RELU, [x], [y])
        model.identify([x], [z])
        with pytest.raises(UnsupportedError, match="BAD_DATA"):
            model.finish()

    def test_an_operation_it_does_not_have(self, model: NeuronModel) -> None:
        x = model.add_operand("x", FLOATS, (4,))
        with pytest.raises(UnsupportedError, match="BAD_DATA"):
            model.devices.call(
                "add", "NeuronModel_addOperation", model.handle, 16, 1, (c.c_uint32 * 1)(x), 1, (c.c_uint32 * 1)(x)
            )

    def test_nothing_where_something_belongs(self, model: NeuronModel) -> None:
        for function, arguments in (
            ("NeuronModel_create", (None,)),
            ("NeuronModel_addOperand", (model.handle, None)),
            ("NeuronModel_finish", (None,)),
            ("NeuronExecution_compute", (None,)),
            ("Neuron_getDevice", (0, None)),
        ):
            with pytest.raises(ProviderBugError, match="UNEXPECTED_NULL"):
                model.devices.call("do it", function, *arguments)

    def test_a_handle_of_something_else(self, model: NeuronModel) -> None:
        with pytest.raises(UnsupportedError, match="BAD_DATA"):
            model.devices.call("do it", "NeuronExecution_compute", model.handle)

    def test_a_run_whose_memory_is_not_set(self, model: NeuronModel) -> None:
        sum_of_two(model)
        model.finish()
        compilation = NeuronCompilation(model)
        with pytest.raises(ProviderError, match="create an execution: it returns NEURON_BAD_STATE"):
            NeuronExecution(compilation)
        compilation.finish()
        execution = NeuronExecution(compilation)
        with pytest.raises(ProviderError, match="run: it returns NEURON_BAD_STATE"):
            execution.compute()
        with pytest.raises(ProviderError, match="NEURON_BAD_STATE"):
            compilation.stored()  # no more, once there is an execution
        execution.close()
        compilation.close()


def test_long_values_are_referred_to_until_the_compilation_is_finished(model: NeuronModel) -> None:
    """Short ones are copied when they are set; the binding keeps both."""
    length = 64
    x = model.add_operand("x", FLOATS, (length,))
    constant = model.add_operand("c", FLOATS, (length,))
    content = np.ones(length, np.float32)
    pointer = content.ctypes.data
    model.devices.call("set", "NeuronModel_setOperandValue", model.handle, constant, pointer, content.nbytes)
    fuse = model.add_operand("fuse", OperandCode.INT32, ())
    model.set_value("fuse", fuse, np.asarray(0, np.int32))
    total = model.add_operand("sum", FLOATS, (length,))
    model.add_operation("add", Operation.ADD, [x, constant, fuse], [total])
    model.identify([x], [total])
    model.finish()
    content[:] = 2  # is seen: the library has the address only
    compilation = NeuronCompilation(model)
    compilation.finish()
    content[:] = 3  # is not
    execution = NeuronExecution(compilation)
    given, found = np.zeros(length, np.float32), np.zeros(length, np.float32)
    execution.set_input(0, given.ctypes.data, given.nbytes)
    execution.set_output(0, found.ctypes.data, found.nbytes)
    execution.compute()
    np.testing.assert_array_equal(found, 2)
    execution.close()
    compilation.close()


@pytest.mark.parametrize("function", [name for name, known in FUNCTIONS.items() if known.returns is not None])
def test_each_function_fails_when_it_is_told_to(opened: ApuBackend, stand_in: StandIn, function: str) -> None:
    zeros = [kind() if isinstance(kind, type) and issubclass(kind, c._SimpleCData) else None
             for kind in FUNCTIONS[function].arguments]  # fmt: skip
    with stand_in.failing(function, Result.OP_FAILED), pytest.raises(UnsupportedError, match="OP_FAILED"):
        opened.devices.call("do it", function, *zeros)
