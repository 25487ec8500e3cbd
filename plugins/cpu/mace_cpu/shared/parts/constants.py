"""The constants of a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.provider.weights import SHARED_FROM_BYTES, SharedArray, shared, shared_form
from mace_cpu.shared.parts.buffers import Buf, Place

SMALL_BYTES = 4096
"""Up to so many bytes constants are told apart by their content, larger ones by the array."""

Array = npt.NDArray[Any]


class ConstantPool:
    """Constant buffers, each content once.

    Large ones are shared by the whole process (`mace_core.provider.weights`), the others belong to the program.

    Attributes:
        weights: the shared array of each large buffer.
    """

    def __init__(self) -> None:
        self._all: list[tuple[Buf, Array]] = []
        self._memo: dict[tuple[Any, ...], Buf] = {}
        self._kept: list[Array] = []
        self._packed: dict[tuple[object, ...], tuple[Array, Buf]] = {}
        self.weights: dict[Buf, SharedArray] = {}

    @property
    def all(self) -> Sequence[tuple[Buf, Array]]:
        """Each buffer with its content."""
        return self._all

    def put(self, array: Array, *, in_place: bool = False) -> Buf:
        """A constant buffer with the bytes of ``array`` (packed weights, tables), 64-byte aligned; shared if equal.

        ``in_place`` promises that nobody will change the array, which lies 64-byte aligned: it is not copied then.
        """
        if array.nbytes >= SHARED_FROM_BYTES:
            if in_place:
                return self._shared(shared(array, is_mine=True))
            return self._shared(shared_form(array, ("as it is",), array.copy))
        data = np.ascontiguousarray(array)
        key: tuple[Any, ...] = (
            (id(array),) if data.nbytes > SMALL_BYTES else (data.dtype.str, data.shape, data.tobytes())
        )
        if key not in self._memo:
            buf = Buf(Place.CONSTANT, data.nbytes, in_place=in_place)
            self._all.append((buf, data))
            self._memo[key] = buf
            self._kept.append(array)  # so that no other array gets its id while the memo lives
        return self._memo[key]

    def packed(self, array: Array, way: tuple[object, ...], pack: Callable[[], Array]) -> Buf:
        """A constant buffer with ``array`` in a kernel's order; users of one array of the model share it.

        Args:
            array: what is packed; two arrays over the same memory are the same.
            way: all that ``pack`` depends on besides ``array``.
            pack: gives an array that lies 64-byte aligned and that nobody changes.
        """
        key = (array.ctypes.data, array.shape, array.strides, array.dtype.str, *way)
        found = self._packed.get(key)
        if found is not None:
            return found[1]
        if array.nbytes >= SHARED_FROM_BYTES:
            buf = self._shared(shared_form(array, way, pack))
        else:
            buf = self.put(pack(), in_place=True)
        if not array.flags.owndata:  # a view of the model's bytes; what was made for one user is read by no other
            self._packed[key] = array, buf
        return buf

    def _shared(self, array: SharedArray) -> Buf:
        key = ("shared", array.digest)
        if key not in self._memo:
            buf = Buf(Place.CONSTANT, array.nbytes, in_place=True)
            self._all.append((buf, array.data))
            self.weights[buf] = array
            self._memo[key] = buf
        return self._memo[key]
