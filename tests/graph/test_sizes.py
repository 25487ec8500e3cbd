"""How many elements and bytes a type, a constant and a tensor in memory have."""

from __future__ import annotations

import pytest

from mace_core.provider import BoundTensor, Buffer
from mace_core.tensor import DType, MemoryKind, TensorType


@pytest.mark.parametrize(
    ("dtype", "shape", "size", "nbytes"),
    [
        (DType.FLOAT32, (2, 3), 6, 24),
        (DType.FLOAT16, (), 1, 2),
        (DType.INT64, (4, 0, 2), 0, 0),
        (DType.INT4, (3, 3), 9, 5),
        (DType.FLOAT32, (1 << 40, 1 << 40), 1 << 80, 1 << 82),
    ],
)
def test_sizes_follow_from_type_and_shape(dtype: DType, shape: tuple[int, ...], size: int, nbytes: int) -> None:
    bound = BoundTensor(dtype, shape, Buffer(MemoryKind.HOST, 0, 0, None))
    for found in (TensorType(dtype, shape), bound):
        assert (found.size, found.nbytes) == (size, nbytes)


@pytest.mark.parametrize("shape", [None, (2, "n"), (None,)])
def test_a_shape_that_is_not_known_has_no_size(shape: tuple[int | str | None, ...] | None) -> None:
    found = TensorType(DType.FLOAT32, shape)
    with pytest.raises(ValueError, match="is not concrete"):
        _ = found.size
    with pytest.raises(ValueError, match="is not concrete"):
        _ = found.nbytes
