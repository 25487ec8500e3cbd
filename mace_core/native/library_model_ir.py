"""What a library has of each model, as LLVM IR: what ``mace_runtime.h`` describes, and their function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mace_core.native.library_ir import CREATE_WITH, FUNCTIONS, MAJOR, MINOR, MODEL_TYPE, OWN_TYPE
from mace_core.native.target import Target


class TensorFacts(NamedTuple):
    """An input or an output, as ``mace_tensor`` tells it."""

    name: str
    type: int
    smallest: Sequence[int]
    largest: Sequence[int]


class StateFacts(NamedTuple):
    """Numbers of an input, and of the output that feeds it in the next run, as ``mace_state`` tells them.

    ``start`` is repeated until it fills the input; empty for zeros.
    """

    input: int
    output: int
    start: bytes


class ModelFacts(NamedTuple):
    """What the structure of a model says.

    Attributes:
        symbol: the prefix of its names in C.
        name, target, made_by: texts.
        inputs, outputs: in order.
        most_threads: see the header.
        instance_bytes, workspace_bytes: see the header.
        tables, weights: symbols of data; "" for weights that are in a file.
        states: what it keeps from run to run.
        weight_bytes, weight_key: of that file: its size, and what it is known by.
        kernels: symbols of kernels, by their numbers in the tables.
        messages: formats for ``snprintf`` with one number of 64 bits.
        steps: name and nodes of each step of each plan.
    """

    symbol: str
    name: str
    target: str
    made_by: str
    inputs: Sequence[TensorFacts]
    outputs: Sequence[TensorFacts]
    most_threads: int
    instance_bytes: int
    workspace_bytes: int
    tables: str
    weights: str
    kernels: Sequence[str]
    messages: Sequence[str]
    steps: Sequence[tuple[str, str]]
    weight_bytes: int = 0
    weight_key: bytes = b""
    states: Sequence[StateFacts] = ()


class _Texts:
    """C texts, each once; in C they end at the first zero, so that one inside is shown as a character of its own."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        name = self._names.setdefault(text, f"@{self._prefix}.text.{len(self._names)}")
        return f"ptr {name}"

    @property
    def ir(self) -> str:
        lines = []
        for text, name in self._names.items():
            content = text.replace("\0", "\ufffd").encode() + b"\0"
            shown = "".join(f"\\{byte:02X}" for byte in content)
            lines.append(f'{name} = private unnamed_addr constant [{len(content)} x i8] c"{shown}"')
        return "\n".join(lines) + "\n"


def model_ir(facts: ModelFacts, target: Target) -> str:
    """A module that defines ``NAME_model`` and what it points to."""
    own = facts.symbol
    texts = _Texts(own)
    parts: list[str] = [f"declare void @{kernel}(ptr, i64, i64, i64)" for kernel in dict.fromkeys(facts.kernels)]
    parts += [f"declare hidden void @mace_library_{name}()" for name in (*FUNCTIONS, CREATE_WITH)]
    parts += [f"@{symbol} = external hidden constant i8" for symbol in (facts.tables, facts.weights) if symbol]

    def array(name: str, kind: str, items: Sequence[str]) -> str:
        filled = items or [f"{kind} zeroinitializer"]
        parts.append(f"@{own}.{name} = private constant [{len(filled)} x {kind}] [{', '.join(filled)}]")
        return f"ptr @{own}.{name}"

    def tensors(name: str, tensors: Sequence[TensorFacts]) -> str:
        rows = []
        for number, tensor in enumerate(tensors):
            smallest, largest = (
                array(f"{name}.{number}.{which}", "i64", [f"i64 {size}" for size in sizes])
                for which, sizes in (("smallest", tensor.smallest), ("largest", tensor.largest))
            )
            rows.append(
                f"{{ ptr, i32, i32, ptr, ptr }} {{ {texts(tensor.name)}, i32 {tensor.type}, "
                f"i32 {len(tensor.largest)}, {smallest}, {largest} }}"
            )
        return array(name, "{ ptr, i32, i32, ptr, ptr }", rows)

    def states() -> str:
        rows = []
        for number, state in enumerate(facts.states):
            start = "ptr null"
            if state.start:
                start = array(f"state.{number}", "i8", [f"i8 {byte}" for byte in state.start])
            rows.append(
                f"{{ i32, i32, ptr, i64 }} {{ i32 {state.input}, i32 {state.output}, {start}, i64 {len(state.start)} }}"
            )
        return array("states", "{ i32, i32, ptr, i64 }", rows) if rows else "ptr null"

    inputs, outputs = tensors("inputs", facts.inputs), tensors("outputs", facts.outputs)
    kernels = array("kernels", "ptr", [f"ptr @{kernel}" for kernel in facts.kernels])
    messages = array("messages", "ptr", [texts(message) for message in facts.messages])
    steps = array(
        "steps", "{ ptr, ptr }", [f"{{ ptr, ptr }} {{ {texts(name)}, {texts(nodes)} }}" for name, nodes in facts.steps]
    )
    weights = f"ptr @{facts.weights}" if facts.weights else "ptr null"
    key = array("weight_key", "i8", [f"i8 {byte}" for byte in facts.weight_key]) if facts.weight_key else "ptr null"
    parts.append(
        f"@{own}.own = private constant {OWN_TYPE} {{ ptr @{facts.tables}, {weights}, {kernels}, {messages}, {steps} }}"
    )
    size = f"i{target.pointer_bits}"
    functions = ", ".join(f"ptr @mace_library_{name}" for name in FUNCTIONS)
    parts.append(
        f"@{own}.model = private constant {MODEL_TYPE.replace('SIZE', size)} {{ i32 {MAJOR}, i32 {MINOR}, "
        f"{texts(facts.name)}, {texts(facts.target)}, {texts(facts.made_by)}, i32 {len(facts.inputs)}, "
        f"i32 {len(facts.outputs)}, {inputs}, {outputs}, i32 {facts.most_threads}, i32 0, "
        f"{size} {facts.instance_bytes}, {size} {facts.workspace_bytes}, ptr @{own}.own, {functions}, "
        f"{size} {facts.weight_bytes}, {key}, ptr @mace_library_{CREATE_WITH}, i32 {len(facts.states)}, i32 0, "
        f"{states()} }}"
    )
    parts.append(f"define ptr @{own}_model() {{\n  ret ptr @{own}.model\n}}")
    return "\n".join([*parts, texts.ir])
