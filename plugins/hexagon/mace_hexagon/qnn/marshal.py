"""Descriptions of tensors and nodes as QNN's structures."""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping
from typing import Any

import numpy as np

from mace_hexagon.description import Encoding, QOp, QTensor
from mace_hexagon.qnn.types import (
    DEFINITION_DEFINED,
    ENCODING_AXIS_SCALE_OFFSET,
    ENCODING_SCALE_OFFSET,
    OP_CONFIG_VERSION,
    PARAM_SCALAR,
    PARAM_TENSOR,
    TENSOR_VERSION,
    UNDEFINED,
    DataType,
    OpConfig,
    Param,
    QuantizeParams,
    Scalar,
    ScaleOffset,
    Tensor,
    TensorKind,
)

_PARAM_TYPES = {
    np.dtype(np.uint32): DataType.UINT_32,
    np.dtype(np.int32): DataType.INT_32,
    np.dtype(np.float32): DataType.FLOAT_32,
    np.dtype(np.bool_): DataType.BOOL_8,
}


class Marshal:
    """Builds structures and keeps alive what they point to; they are valid as long as this object lives."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def tensor(self, described: QTensor, *, number: int = 0) -> Tensor:
        """A tensor; ``number`` is the id the graph gave it, 0 before it did."""
        tensor = Tensor(TENSOR_VERSION)
        v1 = tensor.any.v1
        v1.id = number
        v1.name = self._text(described.name)
        v1.kind = described.kind
        v1.data_type = described.data_type
        self._quantize(v1.quantize, described.encoding)
        dimensions = (c.c_uint32 * len(described.shape))(*described.shape)
        self._kept.append(dimensions)
        v1.rank = len(described.shape)
        v1.dimensions = dimensions
        if described.data is not None:
            data = np.ascontiguousarray(described.data)
            self._kept.append(data)
            v1.buffer.data = data.ctypes.data
            v1.buffer.size = data.nbytes
        return tensor

    def op(self, described: QOp, numbers: Mapping[QTensor, int] | None = None) -> OpConfig:
        """A node; ``numbers`` are the ids of its tensors once they are registered."""
        known = numbers or {}
        config = OpConfig(
            OP_CONFIG_VERSION, self._text(described.name), self._text(described.package), self._text(described.type)
        )
        params = (Param * max(len(described.params), 1))()
        for slot, (name, value) in zip(params, described.params.items(), strict=False):
            self._param(slot, f"{described.name}/{name}", name, value)
        inputs = (Tensor * max(len(described.inputs), 1))(
            *(self.tensor(tensor, number=known.get(tensor, 0)) for tensor in described.inputs)
        )
        outputs = (Tensor * max(len(described.outputs), 1))(
            *(self.tensor(tensor, number=known.get(tensor, 0)) for tensor in described.outputs)
        )
        self._kept += [params, inputs, outputs]
        config.param_count, config.params = len(described.params), params
        config.input_count, config.inputs = len(described.inputs), inputs
        config.output_count, config.outputs = len(described.outputs), outputs
        return config

    def param_tensors(self, config: OpConfig) -> list[Tensor]:
        """The tensors among a node's parameters: they are registered like any other."""
        params = (config.params[i] for i in range(config.param_count))
        return [param.value.tensor for param in params if param.kind == PARAM_TENSOR]

    def _text(self, text: str) -> bytes:
        encoded = text.encode()
        self._kept.append(encoded)
        return encoded

    def _param(self, slot: Param, tensor_name: str, name: str, value: Any) -> None:
        slot.name = self._text(name)
        data_type = _PARAM_TYPES[np.asarray(value).dtype]
        if isinstance(value, np.ndarray):
            slot.kind = PARAM_TENSOR
            described = QTensor(tensor_name, data_type, value.shape, TensorKind.STATIC, data=value)
            slot.value.tensor = self.tensor(described)
            return
        slot.kind = PARAM_SCALAR
        scalar = Scalar(data_type)
        match data_type:
            case DataType.UINT_32:
                scalar.value.u32 = int(value)
            case DataType.INT_32:
                scalar.value.i32 = int(value)
            case DataType.FLOAT_32:
                scalar.value.f32 = float(value)
            case _:
                scalar.value.bool8 = int(value)
        slot.value.scalar = scalar

    def _quantize(self, params: QuantizeParams, encoding: Encoding | None) -> None:
        if encoding is None:
            params.definition = params.encoding = UNDEFINED
            return
        params.definition = DEFINITION_DEFINED
        if encoding.axis is None:
            params.encoding = ENCODING_SCALE_OFFSET
            params.value.tensor = ScaleOffset(float(encoding.scales[0]), -int(encoding.zero_points[0]))
            return
        params.encoding = ENCODING_AXIS_SCALE_OFFSET
        values = (ScaleOffset * len(encoding.scales))(
            *(ScaleOffset(float(s), -int(z)) for s, z in zip(encoding.scales, encoding.zero_points, strict=True))
        )
        self._kept.append(values)
        params.value.axis.axis = encoding.axis
        params.value.axis.count = len(encoding.scales)
        params.value.axis.values = values
