"""A subgraph as the accelerator runs it: commands over numbered registers, with a form that can be stored."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView, Value

FORMAT = 1


@dataclass(frozen=True)
class Command:
    """One operator on registers."""

    name: str
    operator: str
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Registers 0 … are inputs, then constants, then results.

    Attributes:
        input_count: how many registers are bound to the subgraph's inputs.
        constants: register -> weights.
        commands: in order.
        outputs: registers that become the subgraph's outputs.
    """

    input_count: int
    constants: dict[int, npt.NDArray[np.float32]]
    commands: tuple[Command, ...]
    outputs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """A stored form: a JSON line, then the weights."""
        header = {
            "format": FORMAT,
            "inputs": self.input_count,
            "constants": [[register, list(array.shape)] for register, array in self.constants.items()],
            "commands": [[c.name, c.operator, list(c.inputs), c.output, list(c.shape)] for c in self.commands],
            "outputs": list(self.outputs),
        }
        weights = b"".join(array.tobytes() for array in self.constants.values())
        return json.dumps(header).encode() + b"\n" + weights

    @classmethod
    def from_bytes(cls, blob: bytes) -> Program:
        """Read :meth:`to_bytes`.

        Raises:
            UnsupportedError: if another version of this provider wrote it.
        """
        stream = io.BytesIO(blob)
        header = json.loads(stream.readline())
        if header["format"] != FORMAT:
            raise UnsupportedError(f"the blob has format {header['format']}, this provider reads {FORMAT}")
        constants = {}
        for register, shape in header["constants"]:
            count = int(np.prod(shape, dtype=np.int64))
            constants[register] = np.frombuffer(stream.read(4 * count), np.float32).reshape(shape)
        commands = tuple(Command(n, op, tuple(i), o, tuple(s)) for n, op, i, o, s in header["commands"])
        return cls(header["inputs"], constants, commands, tuple(header["outputs"]))


def assemble(view: GraphView) -> Program:
    """Compile a subgraph whose nodes were all claimed."""
    registers: dict[Value, int] = {value: index for index, value in enumerate(view.inputs)}
    constants: dict[int, npt.NDArray[np.float32]] = {}
    commands = []
    for node in view.nodes:
        operands = [value for value in node.inputs if value is not None]
        for value in operands:
            tensor = view.constant(value)
            if value not in registers and tensor is not None:
                registers[value] = len(registers)
                constants[registers[value]] = np.array(tensor.numpy())
        result = node.outputs[0]
        if result is None:
            raise UnsupportedError(f"node '{node.name}' has no output", node=node.name)
        inputs = tuple(registers[value] for value in operands)
        registers[result] = len(registers)
        commands.append(Command(node.name, node.op_type, inputs, registers[result], view.shape(result)))
    return Program(len(view.inputs), constants, tuple(commands), tuple(registers[value] for value in view.outputs))
