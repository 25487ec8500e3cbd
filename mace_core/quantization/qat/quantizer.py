"""`MaceQuantizer`: quantization-aware training of PyTorch models for the providers of this framework.

It tells torchao's flow (``prepare_qat_pt2e``, ``convert_pt2e``) where numbers are rounded and how.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import Quantizer

from mace_core.quantization.qat.annotate import Annotator
from mace_core.quantization.qat.specs import make_specs


class MaceQuantizer(Quantizer):  # type: ignore[misc]  # torchao has no types
    """Rounds where the providers' integer kernels round.

    Activations are unsigned 8 bits per tensor, weights signed 8 bits per output channel, biases stay float.  A batch
    normalization and a Relu, ReLU6 or Clip behind a convolution are part of it.  Operators without an integer form,
    such as LayerNorm, stay in float.
    """

    def __init__(self, *, per_channel: bool = True, averaging: float = 0.01, exclude: Iterable[str] = ()) -> None:
        """Choose encodings.

        Args:
            per_channel: whether every output channel of a weight has a scale of its own.
            averaging: how fast the ranges of activations follow what is seen, per batch, from 0 to 1.
            exclude: patterns such as ``head.*``; modules whose names match stay in float.

        Raises:
            ValueError: if ``averaging`` is not above 0 and at most 1.
        """
        super().__init__()
        if not 0 < averaging <= 1:
            raise ValueError(f"averaging is above 0 and at most 1, not {averaging}")
        self._specs = make_specs(per_channel=per_channel, averaging=averaging)
        self._exclude = tuple(exclude)

    def annotate(self, model: GraphModule) -> GraphModule:
        """Mark every node that has an integer form."""
        Annotator(self._specs, self._is_excluded).annotate(model.graph)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing is left to check: every node has an integer form or stays in float."""

    def _is_excluded(self, node: Node) -> bool:
        names = [_module_name(path) for path, _ in node.meta.get("nn_module_stack", {}).values()]
        return any(fnmatchcase(name, pattern) for name in names for pattern in self._exclude)


def _module_name(path: str) -> str:
    """What ``named_modules`` calls the module that is ``L['self'].head.0`` to torch.export: ``head.0``."""
    return path.removeprefix("L['self']").lstrip(".").replace("L__self___", "")
