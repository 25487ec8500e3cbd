"""Measures what the devices of this machine cost, ahead of the sessions that place models by cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mace_core.errors import MaceError
from mace_core.graph import Graph
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.costs.measuring import SECONDS_A_CASE
from mace_core.scheduler.costs.rates import Rates
from mace_core.scheduler.planning.device_rates import measured
from mace_core.scheduler.planning.selection import Options, select_devices
from mace_core.session import Session


def calibrate(
    devices: Sequence[str] | None = None,
    *,
    options: Options | None = None,
    seconds: float = SECONDS_A_CASE,
    registry: Registry | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> dict[str, Rates | MaceError]:
    """Measure devices by small graphs, and keep the rates in the cache for later sessions.

    Args:
        devices: their names; None: all real ones.
        options: as of `Session`: a device under other options has other rates.
        seconds: time for the runs of each graph.
        registry: where providers are found.
        tell: called with what is measured next.

    Returns:
        By qualified name the rates, or why the device could not be measured.

    Raises:
        DeviceNotFoundError, PluginError, UsageError: for devices or options that mean nothing here.
    """
    registry = registry or default_registry()
    given: Mapping[str, Mapping[str, object]] = options or {}
    found: dict[str, Rates | MaceError] = {}
    chosen = select_devices(registry, devices, options=given, strict=True, graph=Graph("calibration"))
    for device in chosen:
        own = {name: values for name, values in given.items() if name in (device.name, device.device.provider)}

        def open_graph(graph: Graph, name: str = device.name, own: Options = own) -> Session:
            return Session(graph, devices=[name], options=own, strict=True, optimize=False, registry=registry)

        def tell_case(what: str, name: str = device.name) -> None:
            tell(f"{name}: {what}")

        try:
            found[device.name] = measured(device, open_graph, seconds=seconds, tell=tell_case)
        except MaceError as error:
            found[device.name] = error
        finally:
            device.close()
    return found
