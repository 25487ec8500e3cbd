"""Fits the subgraphs of a stage to the buckets of their devices, where there are any."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mace_core.graph import GraphView, Node
from mace_core.provider import CompiledSubgraph
from mace_core.provider.border import close_all
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.padded_views import Fitted, PaddedView
from mace_core.scheduler.planning.partition import Partition
from mace_core.scheduler.planning.shared import Make
from mace_core.scheduler.planning.stages import Stage

if TYPE_CHECKING:
    from mace_core.scheduler.planning.padding import FreeAxes

_log = logging.getLogger("mace")

AskDevice = Callable[[SessionDevice, GraphView], str]
"""Why a device does not take a view; "" where it does."""


def fitted(
    stage: Stage,
    parts: Sequence[Partition],
    views: Sequence[GraphView],
    pool: DevicePool,
    ask: AskDevice,
    refused: Mapping[tuple[str, tuple[Node, ...]], str],
) -> list[Fitted]:
    """What each subgraph is compiled as.

    Args:
        stage: where they lie.
        parts, views: the subgraphs.
        pool: the devices.
        ask: asks a device for what it has not compiled yet.
        refused: why subgraphs (device, nodes) are not to be padded.
    """
    free: FreeAxes | None = None
    found: list[Fitted] = []
    for part, view in zip(parts, views, strict=True):
        device = pool.find(part.device)
        buckets = None if device is None or stage.trace is not None else device.buckets
        reason = refused.get((part.device, part.nodes))
        if device is None or buckets is None:
            found.append(Fitted(view))
        elif reason is not None:
            found.append(Fitted(view, (f"not padded: {reason}",)))
        else:
            from mace_core.scheduler.planning.padding import Fit, FreeAxes

            free = free or FreeAxes(stage)
            asking = _asking(ask, device)
            found.append(Fit(stage, device.name, buckets, view, free, device.seen_sizes, asking).run())
            for note in found[-1].notes:
                _log.info("%s: %s", view.name, note)
    return found


def _asking(ask: AskDevice, device: SessionDevice) -> Callable[[GraphView], str]:
    return lambda view: "" if device.compiled_buckets.has(device.name, view) else ask(device, view)


def take_all(device: SessionDevice, view: GraphView) -> str:
    """Nobody is asked: what is stored has been asked for."""
    return ""


def prepared(device: SessionDevice, views: Sequence[GraphView], make: Make) -> list[CompiledSubgraph] | None:
    """What ``make`` gives for the views; of those that are padded, what is there already is used again."""
    padded = [view for view in views if isinstance(view, PaddedView)]
    if not padded:
        return make(views)
    taken = device.compiled_buckets.take(device.name, padded, make)
    if taken is None:
        return None
    others = [view for view in views if not isinstance(view, PaddedView)]
    try:
        made = make(others) if others else []
    except BaseException:
        close_all(taken, device.name, "CompiledSubgraph.close", device.model)
        raise
    if made is None:
        close_all(taken, device.name, "CompiledSubgraph.close", device.model)
        return None
    first, second = iter(taken), iter(made)
    return [next(first) if isinstance(view, PaddedView) else next(second) for view in views]
