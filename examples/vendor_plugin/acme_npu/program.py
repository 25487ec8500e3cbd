"""A subgraph as the accelerator runs it: commands over numbered registers, with a form that can be stored."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from acme_npu.operators import lowered
from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView, Value

FORMAT = 2
FUSED = ("Relu", "Clip")
"""What the convolution unit can do with its sums before it writes them."""

NOWHERE = -1
"""In the place of a result's register: nobody wants it."""


@dataclass(frozen=True)
class Command:
    """One operator on registers.

    Attributes:
        name: of the node; of the first one where two are fused.
        operator: see ``operators.OPERATORS``.
        inputs, outputs: registers.
        settings: what else the operator is told.
        then: an activation applied to the result before it is written, with its settings.
        source: the nodes of the model it stands for.
    """

    name: str
    operator: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    then: tuple[str, Mapping[str, Any]] | None = None
    source: tuple[str, ...] = ()


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
    constants: dict[int, npt.NDArray[Any]]
    commands: tuple[Command, ...]
    outputs: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """A stored form: a JSON line, then the weights."""
        header = {
            "format": FORMAT,
            "inputs": self.input_count,
            "constants": [[register, a.dtype.name, list(a.shape)] for register, a in self.constants.items()],
            "commands": [
                [c.name, c.operator, c.inputs, c.outputs, c.settings, c.then, c.source] for c in self.commands
            ],
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
        for register, dtype, shape in header["constants"]:
            nbytes = math.prod(shape) * np.dtype(dtype).itemsize
            constants[register] = np.frombuffer(stream.read(nbytes), dtype).reshape(shape)
        commands = tuple(
            Command(name, operator, tuple(inputs), tuple(outputs), settings, then and tuple(then), tuple(source))
            for name, operator, inputs, outputs, settings, then, source in header["commands"]
        )
        return cls(header["inputs"], constants, commands, tuple(header["outputs"]))


def assemble(view: GraphView) -> Program:
    """Compile a subgraph whose nodes were all claimed."""
    registers: dict[Value, int] = {value: index for index, value in enumerate(view.inputs)}
    constants: dict[int, npt.NDArray[Any]] = {}
    commands = []
    for node in view.nodes:
        form = lowered(view, node)
        for value in form.operands:
            tensor = view.constant(value)
            if value not in registers and tensor is not None:
                registers[value] = len(registers)
                constants[registers[value]] = np.array(tensor.numpy())
        for result in node.outputs:
            if result is not None:
                registers[result] = len(registers)
        inputs = tuple(registers[value] for value in form.operands)
        outputs = tuple(NOWHERE if result is None else registers[result] for result in node.outputs)
        commands.append(Command(node.name, node.op_type, inputs, outputs, form.settings, source=(node.name,)))
    results = tuple(registers[value] for value in view.outputs)
    return Program(len(view.inputs), constants, tuple(fused(commands, results)), results)


def fused(commands: Sequence[Command], results: Sequence[int]) -> list[Command]:
    """Convolutions with the activation that follows, where nobody else reads what they give."""
    kept: list[Command] = []
    for command in commands:
        before = next((c for c in kept if c.outputs[0] == command.inputs[0]), None) if command.inputs else None
        if before is None or not may_fuse(before, command, commands, results):
            kept.append(command)
            continue
        kept[kept.index(before)] = replace(
            before,
            outputs=command.outputs,
            then=(command.operator, command.settings),
            source=before.source + command.source,
        )
    return kept


def may_fuse(before: Command, command: Command, commands: Sequence[Command], results: Sequence[int]) -> bool:
    """Whether ``before`` is a convolution whose one reader is the activation ``command``."""
    if before.operator != "Conv" or before.then is not None or command.operator not in FUSED:
        return False
    readers = sum(other.inputs.count(before.outputs[0]) for other in commands)
    return readers == 1 and before.outputs[0] not in results
