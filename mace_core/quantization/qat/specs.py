"""How numbers are rounded in training: the encodings that the providers' integer kernels compute with.

The fused observer of torch is not used: it takes the negative half of a symmetric range for one step longer than the
conversion does, so that what was trained and what runs would differ by a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchao.quantization.pt2e import (
    FakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import FixedQParamsQuantizationSpec, QuantizationSpec


@dataclass(frozen=True, slots=True)
class Specs:
    """The encodings of one model.

    Attributes:
        activation: unsigned 8 bits, one scale and zero point per tensor, ranges by moving average.
        weight: signed 8 bits from -127 to 127, symmetric, one scale per output channel on axis 0, or one per tensor.
        transposed_weight: the same for transposed convolutions, whose output channels are axis 1.
        below_one: of results in [0, 1]: steps of 1/256.
    """

    activation: QuantizationSpec
    weight: QuantizationSpec
    transposed_weight: QuantizationSpec
    below_one: FixedQParamsQuantizationSpec


def make_specs(*, per_channel: bool = True, averaging: float = 0.01) -> Specs:
    """Encodings as ``mace quantize --scheme int8`` chooses them.

    Args:
        per_channel: whether every output channel of a weight has a scale of its own.
        averaging: how fast a range follows what is seen, per batch.
    """
    activation = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=FakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, averaging_constant=averaging
        ),
    )
    below_one = FixedQParamsQuantizationSpec(
        dtype=torch.uint8, scale=1 / 256, zero_point=0, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine
    )
    return Specs(activation, _weight(0, per_channel), _weight(1, per_channel), below_one)


def _weight(axis: int, per_channel: bool) -> QuantizationSpec:
    observer = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=axis if per_channel else None,
        # a weight is seen whole at every step: its range is the present one
        observer_or_fake_quant_ctr=FakeQuantize.with_args(observer=observer, averaging_constant=1.0),
    )
