"""Training PyTorch models further while the zeros of a pattern stay in place.

Needs torch, which the extra ``qat`` brings; nothing else of the framework imports this::

    from mace_core.sparsity import Pattern
    from mace_core.sparsity.training import hold_pattern

    held = hold_pattern(network, Pattern(2, 4, shared=32))
    optimizer = torch.optim.Adam(network.parameters())
    held.follow(optimizer)
    ...  # the usual training loop

Source of the method: pruning once by magnitude, then training with the mask held, Mishra et al., "Accelerating Sparse
Deep Neural Networks", 2021.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from mace_core.errors import UsageError
from mace_core.sparsity.patterns import Pattern, choose_kept

WINOGRAD_TAPS = (3, 3)

FEWEST_GROUPS = 4
"""Layers with fewer groups of inputs are too small to gain anything."""

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


class HeldPattern:
    """The zeros of a module's weights.

    Attributes:
        pattern: what was asked for.
        masks: by parameter name, 1 where a weight may be other than zero.
        dense: modules whose weights have no pattern, and why.
    """

    def __init__(
        self, pattern: Pattern, masks: Mapping[str, tuple[torch.nn.Parameter, torch.Tensor]], dense: dict[str, str]
    ) -> None:
        self.pattern, self.dense = pattern, dense
        self.masks = MappingProxyType({name: mask for name, (_, mask) in masks.items()})
        self._held = list(masks.values())

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Let each step of ``optimizer`` leave the zeros in place.

        It may be one of the module's own parameters, or of the graph that `mace_core.quantization.qat.prepare` made of
        the module afterwards: they are the same.

        Raises:
            UsageError: if it changes none of the weights that have a pattern.
        """
        trained = {parameter.data_ptr() for group in optimizer.param_groups for parameter in group["params"]}
        if self._held and not any(parameter.data_ptr() in trained for parameter, _ in self._held):
            raise UsageError(
                "the optimizer changes none of the weights that have a pattern; give it the parameters of the module, "
                "or of the graph that was prepared from it afterwards"
            )
        optimizer.register_step_post_hook(lambda *_: self.apply())

    def apply(self) -> None:
        """Put the zeros back, after weights were changed by other means than a followed optimizer."""
        with torch.no_grad():
            for parameter, mask in self._held:
                parameter.mul_(mask)


def hold_pattern(model: torch.nn.Module, pattern: Pattern | None = None, *, exclude: Sequence[str] = ()) -> HeldPattern:
    """Prune the convolutions and linear layers of ``model`` by magnitude, in place, and remember where the zeros are.

    As `mace prune` does, it gives the taps of a 3x3 convolution of stride 1 one pattern, and each tap of other
    convolutions its own; grouped convolutions, and layers with few inputs or fewer outputs than share a pattern, stay
    dense.

    Args:
        pattern: None: 2:4 shared by 32 outputs; `Pattern(2, 4, shared=1)`: the ordinary one.
        exclude: patterns of names of modules that stay dense, such as ``head.*``.

    Raises:
        UsageError: if no layer can have the pattern.
    """
    wanted = Pattern() if pattern is None else pattern
    masks: dict[str, tuple[torch.nn.Parameter, torch.Tensor]] = {}
    dense: dict[str, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (*_CONVOLUTIONS, torch.nn.Linear)):
            continue
        reason = _reason(name, module, wanted, exclude)
        if reason is not None:
            dense[name] = reason
            continue
        weight = module.weight
        mask = torch.from_numpy(_kept(module, wanted)).to(weight)
        masks[f"{name}.weight" if name else "weight"] = weight, mask
    if not masks:
        raise UsageError(
            f"no layer of the module can have the pattern {wanted} shared by {wanted.shared}; "
            "let fewer outputs share it, or exclude fewer layers"
        )
    held = HeldPattern(wanted, masks, dense)
    held.apply()
    return held


def _reason(name: str, module: torch.nn.Module, pattern: Pattern, exclude: Sequence[str]) -> str | None:
    """Why a layer stays dense, if it does."""
    outputs, inputs = module.weight.shape[:2]
    if any(fnmatch.fnmatchcase(name, one) for one in exclude):
        return "excluded"
    if getattr(module, "groups", 1) != 1:
        return "grouped"
    if inputs < FEWEST_GROUPS * pattern.group:
        return f"only {inputs} inputs"
    if outputs < pattern.shared:
        return f"only {outputs} outputs, fewer than share a pattern"
    return None


def _kept(module: torch.nn.Module, pattern: Pattern) -> npt.NDArray[np.bool_]:
    """Which weights of a layer stay, in the shape of its weights."""
    weights = module.weight.detach().cpu().numpy()
    by_taps = np.abs(weights).reshape(*weights.shape[:2], -1).transpose(0, 2, 1)
    moved = any(step != 1 for name in ("stride", "dilation") for step in getattr(module, name, ()))
    by_tap = pattern.by_tap or (by_taps.shape[1] > 1 and (weights.shape[2:] != WINOGRAD_TAPS or moved))
    own = Pattern(pattern.kept, pattern.group, pattern.shared, by_tap)
    return np.ascontiguousarray(choose_kept(by_taps, own).transpose(0, 2, 1).reshape(weights.shape))
