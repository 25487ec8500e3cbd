"""What a .tflite file says, as plain objects: everything that is needed of it, read and checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class FileQuantization:
    """How the integers of a tensor stand for reals: ``(q - zero_point) * scale``.

    Attributes:
        scale: float32, one or one for each index along ``axis``; of blocks, (rows, blocks).
        zero_point: int64, as many.
        axis: the quantized dimension; counts where there are several scales.
        block_size: elements along the last axis that share a scale; 0 without blocks.
        scale_tensor, zero_point_tensor: of blocks, the tensors that hold them; -1 where there is none.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0
    block_size: int = 0
    scale_tensor: int = -1
    zero_point_tensor: int = -1


@dataclass(frozen=True, slots=True)
class FileDimension:
    """One level of a sparse tensor: dense of a size, or the segments and indices of a compressed row."""

    is_sparse: bool
    dense_size: int
    segments: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FileSparsity:
    """How the elements of a sparse tensor are laid out (TensorFlow Lite's SparsityParameters)."""

    traversal_order: tuple[int, ...]
    block_map: tuple[int, ...]
    dimensions: tuple[FileDimension, ...]


@dataclass(frozen=True, slots=True)
class FileTensor:
    """One tensor of a subgraph.

    Attributes:
        index: its number.
        shape: as stored; () also where nothing is known.
        signature: the same with -1 for sizes that may change; None where none do.
        type: code of the element type.
        buffer: number of the buffer with its values; 0 for none.
        external_buffer: number of the external buffer with its values; 0 for none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    type: int
    buffer: int
    external_buffer: int
    has_rank: bool
    is_variable: bool
    quantization: FileQuantization | None
    sparsity: FileSparsity | None


@dataclass(frozen=True, slots=True)
class FileOperator:
    """One operator of a subgraph.

    Attributes:
        index: its place.
        builtin: the builtin's name (``CONV_2D``), ``CUSTOM`` for others.
        custom: the name of a custom operator; "" for a builtin one.
        inputs, outputs, intermediates: numbers of tensors; -1 where an optional one is left out.
        options: the table of its options, None where there is none.
        options_type: the name of that table's type (``Conv2DOptions``).
        custom_options: the bytes that a custom operator gets.
    """

    index: int
    builtin: str
    custom: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Any
    options_type: str
    custom_options: bytes

    @property
    def label(self) -> str:
        """The operator's name in messages."""
        return self.custom or self.builtin


@dataclass(frozen=True, slots=True)
class FileSubgraph:
    """One graph of the file."""

    index: int
    name: str
    tensors: tuple[FileTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[FileOperator, ...]


@dataclass(frozen=True, slots=True)
class FileBuffer:
    """Where a buffer's bytes are in the file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class FileExternalBuffer:
    """A buffer in another file."""

    file: str
    offset: int
    size: int
    packing: str


@dataclass(frozen=True, slots=True)
class FileSignature:
    """Names that a caller uses for the inputs and outputs of a subgraph, by the numbers of the tensors."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FileModel:
    """A whole file.

    Attributes:
        external: external buffers by their number.
        metadata: number of the buffer that holds each entry.
    """

    version: int
    description: str
    subgraphs: tuple[FileSubgraph, ...]
    buffers: tuple[FileBuffer, ...]
    external: dict[int, FileExternalBuffer] = field(default_factory=dict)
    signatures: tuple[FileSignature, ...] = ()
    metadata: dict[str, int] = field(default_factory=dict)
