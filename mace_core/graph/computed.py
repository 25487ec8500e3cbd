"""Constants that are not stored but computed: once in a session, when somebody first looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mace_core.tensor import DType, Tensor

if TYPE_CHECKING:
    from mace_core.graph.graph import Graph


class ConstantsOwner(Protocol):
    """Computes the constants of one model, and keeps them while they are needed."""

    def payload_of(self, tensor: ComputedTensor) -> npt.NDArray[np.uint8]:
        """The bytes of a constant, computed now where nobody has them any more."""


class ComputedTensor(Tensor):
    """A constant that other constants give: too large to be stored with the model, the same in every run.

    Attributes:
        recipe: a graph without inputs, whose one output is this constant.
        owner: who computes it; set by the session.
    """

    __slots__ = ("owner", "recipe")

    def __init__(self, dtype: DType, shape: tuple[int, ...], recipe: Graph) -> None:
        """``dtype`` is one of numbers."""
        self.dtype = dtype
        self.shape = shape
        self.source = None
        self.recipe = recipe
        self.owner: ConstantsOwner | None = None

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(self.size)

    @property
    def payload(self) -> npt.NDArray[Any]:
        """The stored bytes (flat uint8).  Read-only.

        Raises:
            MaceError: if it cannot be computed.
        """
        assert self.owner is not None, "a session sets who computes its constants before it plans"
        return self.owner.payload_of(self)
