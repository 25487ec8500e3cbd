"""Chains of products with packed weights: more of them than caches hold, as the layers of a language model are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class Chain:
    """Products of rows with square matrices, one after the other.

    Attributes:
        size: rows and columns of each matrix.
        bits, block: of the weights.
        count: matrices.
        rows: of the input.
        accuracy_level: of the nodes; 4 lets an engine round activations to 8 bits.
    """

    size: int = 4096
    bits: int = 4
    block: int = 32
    count: int = 16
    rows: int = 1
    accuracy_level: int = 0

    @property
    def weight_bytes(self) -> int:
        """Codes and scales of one matrix."""
        return self.size * self.size * self.bits // 8 + 4 * self.size * self.size // self.block

    def model(self) -> onnx.ModelProto:
        """The chain, of MatMulNBits."""
        rng = np.random.default_rng(0)
        blocks, nodes, constants = self.size // self.block, [], []
        for number in range(self.count):
            codes = rng.integers(0, 256, (self.size, blocks, self.block * self.bits // 8), np.uint8)
            spread = (1 << (self.bits - 1)) * np.sqrt(self.size / 3)  # keeps results as large as inputs
            scales = ((0.5 + rng.random(self.size * blocks)) / spread).astype(np.float32)
            constants += [numpy_helper.from_array(codes, f"w{number}"), numpy_helper.from_array(scales, f"s{number}")]
            attributes = {"K": self.size, "N": self.size, "bits": self.bits, "block_size": self.block}
            attributes["accuracy_level"] = self.accuracy_level
            names = [f"x{number}", f"w{number}", f"s{number}"]
            nodes.append(
                helper.make_node("MatMulNBits", names, [f"x{number + 1}"], domain="com.microsoft", **attributes)
            )
        value = helper.make_tensor_value_info
        ends = [value(f"x{number}", TensorProto.FLOAT, [self.rows, self.size]) for number in (0, self.count)]
        graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    def sample(self) -> dict[str, np.ndarray]:
        """An input."""
        return {"x0": np.random.default_rng(1).standard_normal((self.rows, self.size)).astype(np.float32)}
