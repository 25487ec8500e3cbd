"""Builds described networks as models of the library."""

from __future__ import annotations

from mace_apu.description import Network, Operand
from mace_apu.neuron.handles import NeuronDevices, NeuronModel


def build(devices: NeuronDevices, network: Network, name: str, *, relaxed: bool) -> NeuronModel:
    """A finished model; ``relaxed``: float32 may be computed in float16.  The caller closes it.

    Raises:
        ProviderError: the class that fits, if the library refuses.
    """
    model = NeuronModel(devices)
    try:
        _fill(model, network, name)
        model.relax(relaxed)
        model.finish()
    except BaseException:
        model.close()
        raise
    return model


def _fill(model: NeuronModel, network: Network, name: str) -> None:
    indexes: dict[Operand, int] = {}

    def index_of(operand: Operand) -> int:
        if operand not in indexes:
            index = model.add_operand(operand.name, operand.code, operand.shape, operand.scale, operand.zero_point)
            indexes[operand] = index
            if operand.channels is not None:
                model.set_channel_scales(operand.name, index, operand.channels.axis, operand.channels.scales)
            if operand.data is not None:
                model.set_value(operand.name, index, operand.data)
        return indexes[operand]

    model.name(name)
    inputs = [index_of(operand) for operand in network.inputs]
    for call in network.calls:
        label = call.source[0] if call.source else name
        taken = [index_of(operand) for operand in call.inputs]
        model.add_operation(label, call.operation, taken, [index_of(operand) for operand in call.outputs])
    model.identify(inputs, [index_of(operand) for operand in network.outputs])
