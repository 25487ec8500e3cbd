"""Which kernel computes a convolution: lanes are channels (BLOCKED) or pixels (PLAIN); conversions count.

This is the only place that decides it, for a node that is lowered now and for one whose turn comes later.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from mace_core.graph import Node, Value
from mace_core.symbolic import hint
from mace_core.tensor import DType
from mace_cpu.conv.depthwise.lower import fits_depthwise
from mace_cpu.conv.direct.lower import Floats, direct_share, fits_direct
from mace_cpu.conv.geometry import Geometry, conv_geometry, transpose_geometry
from mace_cpu.conv.planar.lower import choose_tile, planar_cost, planar_lattice
from mace_cpu.conv.transposed.lower import fits_phases, fits_shuffle
from mace_cpu.conv.winograd.lower import (
    WORTH_IT,
    Plan,
    channel_share,
    fits_winograd,
    weight_cost,
    winograd_plan,
)
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import LEAST_PAIRED
from mace_cpu.shared.tiles.kept import has_many_zeros

CONVERSION_PER_VECTOR = 8.0
"""What moving a vector between layouts takes, in vector multiplications."""

BLOCKED_OVERHEAD = 1.1
KEPT_OVERHEAD = 1.1
"""Of steps that are looked up in a table."""

WORTH_CHANGING = 0.9
MOST_PLAIN_CHANNELS = 4
"""Up to so many input channels that lie row-major are read as they are: a block of them would be mostly empty."""


class Kernel(enum.Enum):
    """The kernels that compute Conv and ConvTranspose."""

    GENERAL = "general"
    PAIRS = "direct, in 16-bit floats"
    DEPTHWISE = "depthwise"
    PLANAR = "planar"
    DIRECT = "direct"
    WINOGRAD = "winograd"
    PHASES = "phases"  # of a ConvTranspose
    SHUFFLE = "shuffled phases"


@dataclass(frozen=True, slots=True)
class Choice:
    """How a convolution is computed.

    Attributes:
        kernel: by which kernel.
        winograd: how, where that is Winograd's.
        plain_input: the direct kernel reads its input in the PLAIN layout.
        sparse: the direct kernel leaves out what its tiles have no weights for.
    """

    kernel: Kernel
    winograd: Plan | None = None
    plain_input: bool = False
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of a convolution is left where a tile leaves out steps for which none of its channels has weights.

    Attributes:
        direct: of the products of the direct kernel.
        winograd: of the input channels, which is what Winograd's method may leave out.
    """

    direct: float = 1.0
    winograd: float = 1.0

    @classmethod
    def of(cls, program: Program, geometry: Geometry, weights: Floats) -> Shares:
        """Of weights (O, C / groups, kernel) of a convolution that the direct kernel covers."""
        if not has_many_zeros(weights):
            return cls()
        winograd = channel_share(weights, program) if fits_winograd(geometry) else 1.0
        return cls(direct_share(program, geometry, weights), winograd)


def by_sizes(program: Program, geometry: Geometry, *, in_pairs: bool = True) -> Kernel | None:
    """The kernel of a Conv with known weights, as far as its sizes alone decide.

    None where the direct, Winograd's and the planar kernel cover it, and costs decide.

    Args:
        in_pairs: whether it may be computed in 16-bit floats, if that is the precision.
    """
    if len(geometry.image) > 2 or not geometry.is_generated:
        return Kernel.GENERAL
    if fits_depthwise(geometry):
        return Kernel.DEPTHWISE
    if not fits_direct(geometry, program.settings.block):
        return Kernel.PLANAR
    unit = program.settings.pair_unit
    if in_pairs and unit is not None and fills_pairs(geometry, program.settings.block):
        cost = _direct_cost(program, geometry, 1.0) * unit.cost
        if unit.takes_halves and winograd_plan(program, geometry.at_hand(), cost) is not None:
            return None
        return Kernel.PAIRS
    return None


def choose(
    program: Program, geometry: Geometry, x: Value, weights: Floats, result: Value, *, scaled: bool = False
) -> Choice:
    """How to compute a Conv of ``x`` with known weights, where ``result`` is stored.

    Args:
        scaled: its weights are multiplied in every run, which only the depthwise and the direct kernel know.
    """
    kernel = by_sizes(program, geometry, in_pairs=not scaled)
    if kernel in (Kernel.GENERAL, Kernel.DEPTHWISE, Kernel.PAIRS):
        return Choice(kernel)
    if scaled:
        return Choice(Kernel.DIRECT, plain_input=_takes_plain(program, geometry, x))
    if kernel is Kernel.PLANAR:
        return Choice(kernel)
    shares = Shares.of(program, geometry, weights)
    if _wants_planar(program, geometry, x, result, shares):
        return Choice(Kernel.PLANAR)
    plan = _chosen_winograd(program, geometry, x, shares)
    if plan is not None:
        return Choice(Kernel.WINOGRAD, plan)
    return Choice(Kernel.DIRECT, plain_input=_takes_plain(program, geometry, x), sparse=shares.direct < 1)


def choose_transpose(program: Program, geometry: Geometry, x: Value) -> Kernel:
    """How to compute a ConvTranspose of ``x`` with known weights."""
    if _wants_planar_transpose(program, geometry, x):
        return Kernel.PLANAR
    if not fits_phases(geometry, program.settings.block):
        return Kernel.GENERAL
    return Kernel.SHUFFLE if fits_shuffle(geometry, program.settings.block) else Kernel.PHASES


def expected(program: Program, node: Node) -> tuple[Kernel, Geometry] | None:
    """The kernel that a node which is not lowered yet will get, going by its sizes: a guess, mistakes cost only time.

    None where it is no convolution of float32 with known weights over up to two axes.
    """
    facts = program.facts
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain:
        return None
    x, w, y = need(node.inputs[0]), need(node.inputs[1]), need(node.outputs[0])
    weights = facts.constant_of(w)
    if weights is None or facts.dtype(y) is not DType.FLOAT32 or len(facts.shape(x)) > 4:
        return None
    shapes = facts.shape(x), facts.shape(w), facts.shape(y)
    if node.op_type == "ConvTranspose":
        geometry = transpose_geometry(node, *shapes)
        return choose_transpose(program, geometry, x), geometry
    geometry = conv_geometry(node, *shapes)
    kernel = by_sizes(program, geometry)
    if kernel is None:
        planar = _planar_cost(program, geometry)
        blocked = _blocked_cost(program, geometry, x, Shares.of(program, geometry, weights))
        kernel = Kernel.PLANAR if planar < blocked * WORTH_CHANGING else Kernel.DIRECT
    return kernel, geometry


def fills_pairs(geometry: Geometry, block: int) -> bool:
    """Whether the channels fill whole registers of pairs of 16-bit floats."""
    return min(geometry.group_in, geometry.group_out) >= LEAST_PAIRED and (
        geometry.groups == 1 or geometry.group_in % (2 * block) == 0
    )


def _takes_plain(program: Program, geometry: Geometry, x: Value) -> bool:
    """Whether the kernel for blocks of channels would read ``x`` in the PLAIN layout."""
    few = geometry.groups == 1 and geometry.in_channels <= MOST_PLAIN_CHANNELS
    return few and not program.values.has(x, Layout.BLOCKED)


def _wants_planar(program: Program, geometry: Geometry, x: Value, result: Value, shares: Shares) -> bool:
    """Whether a Conv that the direct kernel covers is faster through the planar one, where ``result`` is stored."""
    planar, blocked = _planar_cost(program, geometry), _blocked_cost(program, geometry, x, shares)
    if program.values.has(x, Layout.BLOCKED) and not program.values.has(x, Layout.PLAIN):
        planar += _conversion(program, x)
    elif not _takes_plain(program, geometry, x):
        blocked += _conversion(program, x)
    readers = program.facts.view.users(result)
    if program.facts.view.is_output(result) or any(_reads_plain(program, node) for node in readers):
        blocked += _conversion(program, result)
    if not all(_reads_plain(program, node) for node in readers):
        # what is not a convolution takes either layout and is as a rule faster on blocks of channels
        planar += _conversion(program, result)
    return planar < blocked * WORTH_CHANGING


def _wants_planar_transpose(program: Program, geometry: Geometry, x: Value) -> bool:
    """Whether a ConvTranspose is possible and faster through the planar kernel."""
    found = planar_lattice(geometry)
    if found is None:
        return False
    if not fits_phases(geometry, program.settings.block):
        return True
    if fits_shuffle(geometry, program.settings.block) and program.values.has(x, Layout.BLOCKED):
        return False
    convolution, lattice, _ = found
    geometry = geometry.at_hand()
    planar = choose_tile(program.settings.target, convolution, lattice.phases[1]).cost
    blocks = geometry.groups * -(-geometry.group_out // program.settings.block) * _vectors_per_block(program)
    taps = geometry.batch * math.prod(geometry.image) * math.prod(geometry.kernel) * geometry.group_in
    if program.values.has(x, Layout.BLOCKED) and not program.values.has(x, Layout.PLAIN):
        planar += _conversion(program, x)
    return planar < taps * blocks * BLOCKED_OVERHEAD * WORTH_CHANGING


def _reads_plain(program: Program, node: Node) -> bool:
    """Whether a node that is not lowered yet will be a convolution that reads the PLAIN layout."""
    found = expected(program, node)
    if found is None:
        return False
    return found[0] is Kernel.PLANAR or (found[0] is Kernel.GENERAL and node.op_type == "Conv")


def _chosen_winograd(program: Program, geometry: Geometry, x: Value, shares: Shares) -> Plan | None:
    """How a convolution on blocks of channels is computed by Winograd's method, where that is the fastest."""
    if _takes_plain(program, geometry, x):
        return None
    return winograd_plan(program, geometry.at_hand(), _direct_cost(program, geometry, shares.direct), shares.winograd)


def _blocked_cost(program: Program, geometry: Geometry, x: Value, shares: Shares) -> float:
    plan = _chosen_winograd(program, geometry, x, shares)
    return _direct_cost(program, geometry, shares.direct) if plan is None else plan.cost / WORTH_IT


def _planar_cost(program: Program, geometry: Geometry) -> float:
    weights = math.prod(geometry.kernel) * geometry.group_in * geometry.out_channels
    return max(planar_cost(program.settings.target, geometry), weight_cost(weights, 1))


def _direct_cost(program: Program, geometry: Geometry, share: float) -> float:
    geometry = geometry.at_hand()
    blocks = geometry.groups * -(-geometry.group_out // program.settings.block) * _vectors_per_block(program)
    taps = math.prod(geometry.output) * math.prod(geometry.kernel) * geometry.group_in * share
    weights = math.prod(geometry.kernel) * geometry.group_in * share * blocks * program.settings.target.vector_bits / 32
    overhead = BLOCKED_OVERHEAD if share == 1 else BLOCKED_OVERHEAD * KEPT_OVERHEAD
    return max(geometry.batch * taps * blocks * overhead, weight_cost(weights, 1))


def _vectors_per_block(program: Program) -> int:
    return max(program.settings.block * 32 // program.settings.target.vector_bits, 1)


def _conversion(program: Program, value: Value) -> float:
    return hint(program.facts.size(value)) * 32 / program.settings.target.vector_bits * CONVERSION_PER_VECTOR
