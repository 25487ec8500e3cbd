"""Which kernel a convolution is worth: lanes as channels (BLOCKED) or as pixels (PLAIN), conversions counted."""

from __future__ import annotations

import math

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.conv.depthwise.lower import fits_depthwise
from mace_cpu.conv.direct.lower import fits_direct
from mace_cpu.conv.geometry import Geometry, conv_geometry, transpose_geometry
from mace_cpu.conv.planar.lower import choose_tile, planar_cost, planar_lattice
from mace_cpu.conv.transposed.lower import fits_phases, fits_shuffle
from mace_cpu.conv.winograd.lower import WORTH_IT, Plan, weight_cost, winograd_plan
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program

CONVERSION_PER_VECTOR = 8.0
"""What moving a vector between layouts takes, in vector multiplications."""

BLOCKED_OVERHEAD = 1.1
WORTH_CHANGING = 0.9
MOST_PLAIN_CHANNELS = 4
"""Up to so many input channels that lie row-major are read as they are: a block of them would be mostly empty."""


LEAST_CHANNELS = 16
"""With fewer channels, in or out, whole registers of pairs of bfloat16 would be mostly empty."""


def takes_pairs(program: Program, geometry: Geometry) -> bool:
    """Whether a convolution with known weights is computed in bfloat16, going by its sizes alone."""
    return (
        program.settings.bfloat16 is not None
        and fits_direct(geometry, program.settings.block)
        and not fits_depthwise(geometry)
        and min(geometry.group_in, geometry.group_out) >= LEAST_CHANNELS
        and (geometry.groups == 1 or geometry.group_in % (2 * program.settings.block) == 0)
    )


def takes_plain(program: Program, geometry: Geometry, x: Value) -> bool:
    """Whether the kernel for blocks of channels would read ``x`` in the PLAIN layout."""
    few = geometry.groups == 1 and geometry.in_channels <= MOST_PLAIN_CHANNELS
    return few and not program.values.has(x, Layout.BLOCKED)


def wants_planar(program: Program, geometry: Geometry, x: Value, result: Value) -> bool:
    """Whether a Conv that the direct kernel covers is faster through the planar one, where ``result`` is stored."""
    planar, blocked = planar_cost(program.settings.target, geometry), _blocked_cost(program, geometry, x)
    if program.values.has(x, Layout.BLOCKED) and not program.values.has(x, Layout.PLAIN):
        planar += _conversion(program, x)
    elif not takes_plain(program, geometry, x):
        blocked += _conversion(program, x)
    readers = program.facts.view.users(result)
    if program.facts.view.is_output(result) or any(_reads_plain(program, node) for node in readers):
        blocked += _conversion(program, result)
    if not all(_reads_plain(program, node) for node in readers):
        # what is not a convolution takes either layout and is as a rule faster on blocks of channels
        planar += _conversion(program, result)
    return planar < blocked * WORTH_CHANGING


def wants_planar_transpose(program: Program, geometry: Geometry, x: Value) -> bool:
    """Whether a ConvTranspose is possible and faster through the planar kernel."""
    found = planar_lattice(geometry)
    if found is None:
        return False
    if not fits_phases(geometry, program.settings.block):
        return True
    if fits_shuffle(geometry, program.settings.block) and program.values.has(x, Layout.BLOCKED):
        return False
    convolution, lattice, _ = found
    planar = choose_tile(program.settings.target, convolution, lattice.phases[1]).cost
    blocks = geometry.groups * -(-geometry.group_out // program.settings.block) * _vectors_per_block(program)
    taps = geometry.batch * math.prod(geometry.image) * math.prod(geometry.kernel) * geometry.group_in
    if program.values.has(x, Layout.BLOCKED) and not program.values.has(x, Layout.PLAIN):
        planar += _conversion(program, x)
    return planar < taps * blocks * BLOCKED_OVERHEAD * WORTH_CHANGING


def _reads_plain(program: Program, node: Node) -> bool:
    """Whether a node that is not lowered yet will be computed by the planar kernel, going by its sizes alone."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain:
        return False
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and w is not None and y is not None
    if (
        program.facts.constant_of(w) is None
        or program.facts.dtype(y) is not DType.FLOAT32
        or len(program.facts.shape(x)) > 4
    ):
        return False
    shapes = program.facts.shape(x), program.facts.shape(w), program.facts.shape(y)
    if node.op_type == "ConvTranspose":
        return wants_planar_transpose(program, transpose_geometry(node, *shapes), x)
    geometry = conv_geometry(node, *shapes)
    if not geometry.is_generated:
        return True
    if fits_depthwise(geometry) or takes_pairs(program, geometry):
        return False
    if not fits_direct(geometry, program.settings.block):
        return True
    return planar_cost(program.settings.target, geometry) < _blocked_cost(program, geometry, x) * WORTH_CHANGING


def chosen_winograd(program: Program, geometry: Geometry, x: Value) -> Plan | None:
    """How a convolution on blocks of channels is computed by Winograd's method, where that is the fastest."""
    if takes_plain(program, geometry, x):
        return None
    return winograd_plan(program, geometry, _direct_cost(program, geometry))


def _blocked_cost(program: Program, geometry: Geometry, x: Value) -> float:
    plan = chosen_winograd(program, geometry, x)
    return _direct_cost(program, geometry) if plan is None else plan.cost / WORTH_IT


def _direct_cost(program: Program, geometry: Geometry) -> float:
    blocks = geometry.groups * -(-geometry.group_out // program.settings.block) * _vectors_per_block(program)
    taps = math.prod(geometry.output) * math.prod(geometry.kernel) * geometry.group_in
    weights = math.prod(geometry.kernel) * geometry.group_in * blocks * program.settings.target.vector_bits / 32
    return max(geometry.batch * taps * blocks * BLOCKED_OVERHEAD, weight_cost(weights, 1))


def _vectors_per_block(program: Program) -> int:
    return max(program.settings.block * 32 // program.settings.target.vector_bits, 1)


def _conversion(program: Program, value: Value) -> float:
    return program.facts.size(value) * 32 / program.settings.target.vector_bits * CONVERSION_PER_VECTOR
