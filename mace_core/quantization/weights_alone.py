"""The schemes that need no calibration: narrower floats, dynamic ranges, weights in few bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mace_core.graph import Graph, Node
from mace_core.quantization.dynamic import quantize_dynamically
from mace_core.quantization.grids import Grid
from mace_core.quantization.halves import convert_floats
from mace_core.quantization.outcome import Outcome
from mace_core.quantization.prepare import inferred_types
from mace_core.quantization.settings import Settings
from mace_core.quantization.tables import store_tables
from mace_core.quantization.weight_only import Round, nearest, store_weights
from mace_core.tensor import DType

WIDE = Grid(DType.INT8, True)
"""Of weights for which 4 bits are too few."""


def quantize_without_data(
    graph: Graph,
    settings: Settings,
    excluded: Mapping[Node, str],
    rounding: Round = nearest,
    *,
    wider: Collection[str] = (),
) -> Outcome:
    """Change a graph in place.

    Args:
        rounding: of weights in few bits.
        wider: names of nodes whose weights are stored in 8 bits where the scheme has 4.

    Raises:
        UsageError: if there is nothing to quantize.
    """
    if settings.scheme in ("fp16", "bf16"):
        dtype = DType.FLOAT16 if settings.scheme == "fp16" else DType.BFLOAT16
        converted = convert_floats(graph, dtype, inferred_types(graph), excluded)
        notes = [
            f"constant '{name}' has numbers beyond the range of {dtype.label}; they are its ends now"
            for name in converted.clamped
        ]
        found = Outcome(graph, [node.name for node in converted.nodes], _named(converted.floats), notes=notes)
    elif settings.scheme == "dynamic":
        made = quantize_dynamically(
            graph, settings.weight_grid, inferred_types(graph), excluded, per_channel=settings.is_per_channel
        )
        found = Outcome(graph, [node.name for node in made.nodes], _named(made.floats))
        found.weights = {node.name: weights for node, weights in made.weights.items()}
        found.add_tables(store_tables(graph, settings.weight_grid, excluded))
    else:
        stored = store_weights(
            graph,
            settings.weight_grid,
            excluded,
            block=settings.block,
            per_channel=settings.is_per_channel,
            rounding=rounding,
            wide=WIDE,
            wider=wider,
        )
        found = Outcome(graph, [node.name for node in stored.weights], _named(stored.floats))
        found.weights = {node.name: weights for node, weights in stored.weights.items()}
        found.add_tables(store_tables(graph, WIDE, excluded))  # 4 bits are few for a column of them
    found.check_any()
    return found


def _named(floats: Mapping[Node, str]) -> dict[str, str]:
    return {node.name: reason for node, reason in floats.items()}
