"""From a PyTorch module to a graph that rounds in training as it will when it runs in integers."""

from __future__ import annotations

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer

from mace_core.errors import UsageError
from mace_core.quantization.qat.quantizer import MaceQuantizer

SMALLEST_BATCH = 2
"""torch.export takes a dimension of one for a constant."""


def prepare(
    model: torch.nn.Module, example: tuple[torch.Tensor, ...], quantizer: Quantizer | None = None
) -> GraphModule:
    """A trainable graph of ``model`` with fake quantization in it.

    ``move_exported_model_to_train`` and ``move_exported_model_to_eval`` of ``torchao.quantization.pt2e`` take the place
    of ``train()`` and ``eval()``.

    Args:
        model: a module in training mode, trained in float or not. Its parameters are trained further, not copies.
        example: its inputs, with a batch of at least two as first dimension; the batch may then have any size.
        quantizer: a `MaceQuantizer` with other than the usual choices, or that of another package.

    Raises:
        UsageError: if the model is in evaluation mode, where batch normalizations would not learn, or the batch is too
            small.
    """
    if not model.training:
        raise UsageError("quantization-aware training needs a model in training mode; call model.train() first")
    for number, tensor in enumerate(example):
        if tensor.dim() == 0 or tensor.shape[0] < SMALLEST_BATCH:
            raise UsageError(
                f"example input {number} has the shape {list(tensor.shape)}; "
                f"give a batch of at least {SMALLEST_BATCH} as its first dimension"
            )
    exported = torch.export.export(model, example, dynamic_shapes=batch_shapes(example)).module()
    prepared: GraphModule = prepare_qat_pt2e(exported, quantizer or MaceQuantizer())
    return prepared


def batch_shapes(example: tuple[torch.Tensor, ...]) -> tuple[dict[int, object], ...]:
    """For ``torch.export``: the first dimension of every input is the batch, and varies."""
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in example)
