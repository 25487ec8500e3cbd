"""What compiling ahead of time found and wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_core.topology import TopologyReport


@dataclass(frozen=True, slots=True)
class CompiledTarget:
    """What was compiled for one device and one signature.

    Attributes:
        device: as ``provider:id``.
        signature: shapes of the inputs, ``x=1x3x224x224``.
        nodes: that would run there, all in all; those that the signature decides are not among them.
        compiled: nodes that the device runs.
        subgraphs: in which they are.
        nbytes: size of what was compiled.
        compatibility: what it depends on, in the provider's words.
        elsewhere: why the other nodes are not among them -> their names.
        seconds: what compiling took.
    """

    device: str
    signature: str
    nodes: int
    compiled: int
    subgraphs: int
    nbytes: int
    compatibility: str
    elsewhere: Mapping[str, tuple[str, ...]]
    seconds: float

    @property
    def share(self) -> float:
        """Of the nodes, those that the device runs; 0 to 1."""
        return self.compiled / self.nodes if self.nodes else 0.0


@dataclass(frozen=True, slots=True)
class Compilation:
    """What `compile_model` wrote.

    Attributes:
        out: the package.
        nbytes: its size.
        graph_bytes, weight_bytes, compiled_bytes, packed_bytes, sample_bytes: of it the graph, the model's weights,
            what devices compiled, weights in their forms, and samples.
        targets: one for each device and signature.
        assumed: sizes of free dimensions that nobody gave, ``height=224``.
        repairs: what was found and mended for each device, where that was asked for.
    """

    out: Path
    nbytes: int
    graph_bytes: int
    weight_bytes: int
    compiled_bytes: int
    packed_bytes: int
    sample_bytes: int
    targets: tuple[CompiledTarget, ...]
    assumed: str = ""
    repairs: tuple[TopologyReport, ...] = ()
