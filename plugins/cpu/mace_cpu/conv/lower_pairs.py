"""Convolutions in 16-bit floats.

A pair fills a word of 32 bits, so two channels pass for one channel of float32 wherever nothing
but places matters: packing, tiles, addresses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mace_core.graph import Node, Value
from mace_cpu.conv.choose import Kernel, by_sizes, expected, fills_pairs
from mace_cpu.conv.depthwise.lower import Result, fits_depthwise
from mace_cpu.conv.direct.lower import Floats, Pairs, emit_direct
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.pairs import pair_weights
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import LEAST_PAIRED


def why_float32(program: Program, geometry: Geometry) -> str:
    """Why a convolution stays float32 though the precision is another; "" where it does not."""
    unit = program.settings.pair_unit
    if unit is None or by_sizes(program, geometry) is Kernel.PAIRS:
        return ""
    if fits_depthwise(geometry):
        return "" if unit.takes_halves else "float32: depthwise"  # told when its input is known
    if min(geometry.group_in, geometry.group_out) < LEAST_PAIRED:
        return f"float32: fewer than {LEAST_PAIRED} channels"
    if by_sizes(program, geometry) is None and fills_pairs(geometry, program.settings.block):
        return "float32: Winograd's method needs fewer multiplications"
    return f"float32: the {unit.precision} kernel does not cover it"


def write_forms(program: Program, geometry: Geometry, result: Value) -> Result:
    """Memory for the result of a convolution in the forms in which it will be read."""
    forms = {_form_read(program, node, result) for node in program.facts.view.users(result)}
    has_spare = geometry.out_channels % program.settings.block
    if program.settings.pair_unit is None or has_spare or Layout.PAIRS not in forms:
        # (spare lanes would have to be cleared)
        return Result(program.values.write(result, Layout.BLOCKED))
    narrow = program.values.write(result, Layout.PAIRS)
    is_enough = forms == {Layout.PAIRS} and not program.facts.view.is_output(result)
    return Result(None if is_enough else program.values.write(result, Layout.BLOCKED), narrow)


def _form_read(program: Program, node: Node, value: Value) -> Layout:
    """In which layout a node that is not lowered yet will read ``value``: a guess, whose mistakes cost only time."""
    if node.domain or program.settings.pair_unit is None:
        return Layout.BLOCKED
    if node.op_type == "Add":
        return Layout.PAIRS if _is_residual(program, node, value) else Layout.BLOCKED
    found = expected(program, node)
    if found is None or node.inputs[0] is not value:
        return Layout.BLOCKED
    kernel, geometry = found
    if kernel is Kernel.DEPTHWISE:
        return Layout.PAIRS if geometry.group_out == 1 else Layout.BLOCKED
    return Layout.PAIRS if kernel is Kernel.PAIRS else Layout.BLOCKED


def _is_residual(program: Program, node: Node, value: Value) -> bool:
    """Whether the addition of ``value`` will be part of a convolution in pairs that is not lowered yet."""
    others = [x for x in node.inputs if x is not None and x is not value]
    if len(others) != 1 or program.facts.shape(others[0]) != program.facts.shape(value):
        return False
    makers = [maker for maker in program.facts.view.nodes if others[0] in maker.outputs]
    if len(makers) != 1 or program.fusion.is_done(makers[0]) or program.fusion.sole_user(others[0]) is not node:
        return False
    found = expected(program, makers[0])
    return found is not None and found[0] is Kernel.PAIRS


def emit_in_pairs(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, result: Value
) -> None:
    """Emit a convolution of constant weights (O, C / groups, kernel) in 16-bit floats."""
    unit = program.settings.pair_unit
    assert unit is not None
    forms = write_forms(program, geometry, result)
    target = forms.floats or forms.pairs
    assert target is not None
    multiple = 2 * program.settings.block if unit.takes_halves else 2
    missing = [(0, -geometry.group_in % multiple if axis == 1 else 0) for axis in range(weights.ndim)]
    emit_direct(
        program,
        pair_geometry(geometry, multiple),
        x,
        pair_weights(np.pad(weights, missing), 1, unit),
        bias,
        epilogue,
        target,
        pairs=Pairs(unit, forms.stores, forms.pairs),
    )


def pair_geometry(geometry: Geometry, multiple: int = 2) -> Geometry:
    """The same convolution with pairs of channels in the place of channels, of a multiple of so many for a group."""
    return replace(geometry, in_channels=geometry.groups * -(-geometry.group_in // multiple) * (multiple // 2))
