"""Whatever quantizes and dequantizes around its operators, to 8 or 16 bits: each result is within a step, and fusions
change no bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantized_graphs import RNG, Quantizing, run, steps_apart

UNARY = ["Relu", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Abs"]
MOVES = ["MaxPool", "Transpose", "Slice", "Pad"]
SIZED = ["AveragePool", "Conv", "Depthwise", "Add", "Mul", "Sub", "Concat", "Gate", "SiLU"]


class Grower:
    """A graph over values (1, C, H, W), each quantized."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.graph = Quantizing(data.draw(st.sampled_from(["uint8", "int8", "uint16", "int16"])))
        self.is_wide = self.graph.dtype.endswith("16")
        channels, height, width = (data.draw(st.integers(1, high)) for high in (20, 7, 7))
        self.shapes = {self.graph.input(1, channels, height, width): (1, channels, height, width)}

    def grow(self) -> None:
        op = self.data.draw(st.sampled_from([*UNARY, *MOVES, *SIZED]))
        x = self.data.draw(st.sampled_from(sorted(self.shapes)))
        real, shape = getattr(self, f"grow_{op.lower()}", self.grow_unary)(x, op)
        if self.data.draw(st.booleans()) and op not in UNARY:
            real = self.graph.op("Relu", real)
        # where steps of 16 bits are much smaller than the terms of a sum, onnxruntime's floats do not tell them apart
        scale = self.data.draw(st.sampled_from([0.05, 0.1, 0.05 if self.is_wide else 0.013]))
        limits = np.iinfo(self.graph.dtype)
        zero = self.data.draw(st.sampled_from([limits.min, limits.max, 0, 3, 100]))
        self.shapes[self.graph.again(real, scale, zero)] = shape

    def grow_unary(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        return self.graph.op(op, x), self.shapes[x]

    def grow_silu(self, x: str, _: str) -> tuple[str, tuple[int, ...]]:
        gate = self.graph.again(
            self.graph.op("Sigmoid", x), 1 / (65535 if self.is_wide else 255), np.iinfo(self.graph.dtype).min
        )
        return self.graph.op("Mul", x, gate), self.shapes[x]

    def grow_maxpool(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        return self.graph.op(op, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), self.shapes[x]

    grow_averagepool = grow_maxpool

    def grow_transpose(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        n, c, h, w = self.shapes[x]
        return self.graph.op(op, x, perm=[0, 1, 3, 2]), (n, c, w, h)

    def grow_slice(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        n, c, h, w = self.shapes[x]
        first = self.data.draw(st.integers(0, c - 1))
        bounds = (self.graph.constant(np.array([number], np.int64)) for number in (first, c, 1))
        return self.graph.op(op, x, *bounds), (n, c - first, h, w)

    def grow_pad(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        n, c, h, w = self.shapes[x]
        return self.graph.op(op, x, self.graph.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))), (
            n, c, h + 1, w + 1,
        )  # fmt: skip

    def grow_conv(self, x: str, _: str, *, group: int = 1) -> tuple[str, tuple[int, ...]]:
        n, c, h, w = self.shapes[x]
        out = c if group > 1 else self.data.draw(st.integers(1, 24))
        size = self.data.draw(st.sampled_from([1, 3]))
        content = RNG.integers(-127, 128, (out, c // group, size, size)).astype(np.int8)
        scales = (RNG.random(out) / 200 + 0.002).astype(np.float32)
        inputs = [x, self.graph.weight(content, scales, 0)]
        if self.data.draw(st.booleans()):
            inputs.append(self.graph.constant(RNG.standard_normal(out).astype(np.float32)))
        pads = [size // 2] * 4
        return self.graph.op("Conv", *inputs, pads=pads, group=group), (n, out, h, w)

    def grow_depthwise(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        return self.grow_conv(x, op, group=self.shapes[x][1])

    def grow_add(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        alike = [name for name, shape in self.shapes.items() if shape == self.shapes[x]]
        return self.graph.op(op, x, self.data.draw(st.sampled_from(sorted(alike)))), self.shapes[x]

    grow_mul = grow_sub = grow_add

    def grow_concat(self, x: str, op: str) -> tuple[str, tuple[int, ...]]:
        n, c, h, w = self.shapes[x]
        alike = [name for name, shape in self.shapes.items() if (shape[2], shape[3]) == (h, w)]
        other = self.data.draw(st.sampled_from(sorted(alike)))
        return self.graph.op(op, x, other, axis=1), (n, c + self.shapes[other][1], h, w)

    def grow_gate(self, x: str, _: str) -> tuple[str, tuple[int, ...]]:
        pooled = self.graph.again(self.graph.op("GlobalAveragePool", x), 0.05)
        return self.graph.op("Mul", x, self.graph.again(self.graph.op("HardSigmoid", pooled), 0.01)), self.shapes[x]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_each_result_is_within_a_step_and_fusions_change_no_bit(data: st.DataObject, tmp_path: Path) -> None:
    grower = Grower(data)
    for _ in range(data.draw(st.integers(1, 6))):
        grower.grow()
    graph = grower.graph
    model = graph.model()
    apart = steps_apart(model, graph.feeds, tmp_path)
    assert max(apart.values()) <= 1, apart
    everything = run(model, graph.feeds, tmp_path).outputs
    last = graph.outputs[-1]
    alone = run(graph.model([last]), graph.feeds, tmp_path)
    np.testing.assert_array_equal(alone.outputs[last], everything[last])
    if alone.in_float:
        assert grower.is_wide, alone.in_float
        assert "a table of 16 bits" in "".join(alone.in_float.values()), alone.in_float
