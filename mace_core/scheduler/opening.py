"""From what a session is given to what it runs with: arguments checked, the model loaded, the devices chosen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mace_core.errors import MaceError, PluginError
from mace_core.faults import FaultLimits, applied
from mace_core.graph import Graph
from mace_core.host.memory import memory_needed
from mace_core.provider.registry import REFERENCE, Registry
from mace_core.scheduler.numerics import NumericsCheck
from mace_core.scheduler.planning.arguments import (
    check_max_signatures,
    check_numerics_option,
    check_options,
    check_pins,
    device_names,
)
from mace_core.scheduler.planning.defaults import LoadAgain, reloading
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.pins import check_pins_match, pin_lookup, pin_of, shares_of
from mace_core.scheduler.planning.policy import Policy, policy_of
from mace_core.scheduler.planning.preparing import Constants, prepare_model
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.selection import (
    HOST_PROVIDER,
    host_devices,
    host_provider_code,
    resolve_device_name,
    select_devices,
)
from mace_core.scheduler.running.planner import Planner

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.governor import Governor
    from mace_core.package.keys import PublicKey
    from mace_core.package.signatures import Trust
    from mace_core.scheduler.running.computed import ComputedConstants
    from mace_core.scheduler.running.constants import HostConstants
    from mace_core.tensor import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionArguments:
    """The keyword arguments of a `mace_core.Session`, which says what each means.

    Raises:
        UsageError: for one that cannot be, whatever the model.
    """

    devices: Sequence[str] | None
    options: Mapping[str, Mapping[str, object]] | None
    strict: bool
    pins: Mapping[str, str] | None
    max_signatures: int
    optimize: bool
    cache: bool
    mmap: bool
    check_numerics: bool | str
    registry: Registry | None
    policy: str | Policy | None = None
    faults: FaultLimits | None = None
    governor: Governor | None = None
    signature: str | None = None
    dynamic_range: str | None = None
    trusted_keys: Sequence[PublicKey] | None = None
    trusts_all: bool = False
    processing: bool = True

    @classmethod
    def for_writing(
        cls,
        *,
        optimize: bool,
        registry: Registry | None,
        devices: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        strict: bool = False,
    ) -> SessionArguments:
        """Those by which a model is made ready to be written, not run: as a package or a library.

        Nothing is taken from the cache, and any model is: who is trusted is asked where the file is used.
        """
        return cls(
            devices=devices,
            options=options,
            strict=strict,
            pins=None,
            max_signatures=1,
            optimize=optimize,
            cache=False,
            mmap=True,
            check_numerics=False,
            registry=registry,
            trusts_all=True,
        )

    def __post_init__(self) -> None:
        check_max_signatures(self.max_signatures)
        check_options(self.options)
        check_pins(self.pins)
        check_numerics_option(self.check_numerics)
        object.__setattr__(self, "devices", device_names(self.devices))
        policy_of(self.policy, named_devices=self.devices is not None)

    @property
    def limits(self) -> FaultLimits:
        """How failing and hanging devices are dealt with: as given, else as the environment says."""
        return self.faults or FaultLimits.from_environment()

    @property
    def trust(self) -> Trust | None:
        """Whose packages are used, as given, else as the environment says; None: any model is.

        Raises:
            UsageError: if a key cannot be read.
        """
        if self.trusts_all or (self.trusted_keys is None and not os.environ.get("MACE_TRUSTED_KEYS")):
            return None
        from mace_core.package.signatures import trust_of

        return trust_of(self.trusted_keys)

    @property
    def chosen_policy(self) -> Policy:
        """The policy given, or the default."""
        return policy_of(self.policy, named_devices=self.devices is not None)

    def keywords(self) -> dict[str, Any]:
        """For another session like this one."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "trusts_all"}

    def elsewhere(self, devices: Sequence[str]) -> dict[str, Any]:
        """For another session like this one, but on other devices and with the options of those alone."""
        pinned = [share.device for pin in (self.pins or {}).values() for share in shares_of(pin)]
        in_use = {name.partition(":")[0] for name in [*devices, *pinned]}
        if not self.strict:
            in_use |= {HOST_PROVIDER, REFERENCE}
        options = {name: given for name, given in (self.options or {}).items() if name.partition(":")[0] in in_use}
        changed = {"devices": list(devices), "options": options or None, "policy": None, "governor": None}
        return {**self.keywords(), **changed}

    def numerics(self, model: str) -> NumericsCheck | None:
        """What looks at every step's results; None where nobody asked for it."""
        looked_for = check_numerics_option(self.check_numerics)
        return NumericsCheck(model, infinities=looked_for == "all") if looked_for else None


def alone_on(
    device: SessionDevice, options: Mapping[str, Mapping[str, object]] | None, registry: Registry
) -> dict[str, Any]:
    """Keyword arguments of a session that runs graphs as they are on one device, opened as the session's own is."""
    own = {name: given for name, given in (options or {}).items() if name in (device.name, device.device.provider)}
    return {"devices": [device.name], "options": own, "strict": True, "optimize": False, "registry": registry}


def load(model: Model, arguments: SessionArguments, registry: Registry) -> tuple[PreparedModel, LoadAgain | None]:
    """The model made ready for planning, and how to load it once more where some of its inputs have defaults."""
    with applied(arguments.limits), memory_needed(f"{_label_of(model)}: loading it"):
        has_defaults = isinstance(model, Graph) and bool(model.defaults)
        load_again = reloading(model, mmap=arguments.mmap) if has_defaults else None
        prepared = _prepare(model, arguments, registry)
        if prepared.graph.defaults and load_again is None:
            load_again = reloading(model, mmap=arguments.mmap)
    return prepared, load_again


STEPS = ("before/*", "after/*")
"""Nodes of steps before and after a model (`mace_core.processing`), by their names."""


def step_pins(graph: Graph, devices: Sequence[str] | None, registry: Registry, *, strict: bool) -> dict[str, str]:
    """Pins of what is done before and after a model, beside accelerators: pictures of any size would make them compile
    again, and what was compiled ahead of time would fit none but one size.

    Those of the user go over them; ``strict`` without the CPU leaves everything where the user wants it.
    """
    providers = [name.partition(":")[0] for name in devices or ()]
    if not providers or providers[0] == HOST_PROVIDER or (strict and HOST_PROVIDER not in providers):
        return {}
    names = [node.name for node in graph.nodes]
    found = [steps for steps in STEPS if any(name.startswith(steps[:-1]) for name in names)]
    return dict.fromkeys(found, HOST_PROVIDER) if found and host_devices(registry) else {}


def choose_devices(
    arguments: SessionArguments, registry: Registry, model: PreparedModel
) -> tuple[list[SessionDevice], dict[str, str]]:
    """The devices in order of priority, and the pins with the qualified names of theirs.

    Raises:
        DeviceNotFoundError, PluginError, UsageError: for devices, options or pins that mean nothing here.
    """
    options = arguments.options or {}
    try:
        with applied(arguments.limits):
            given = {
                **step_pins(model.graph, arguments.devices, registry, strict=arguments.strict),
                **(arguments.pins or {}),
            }
            shares = {pattern: shares_of(pin) for pattern, pin in given.items()}
            names = {share.device for found in shares.values() for share in found}
            resolved = {name: resolve_device_name(name, registry, options) for name in sorted(names)}
            shares = {
                pattern: [share._replace(device=resolved[share.device]) for share in found]
                for pattern, found in shares.items()
            }
            pins = {pattern: pin_of(found) for pattern, found in shares.items()}
            for pin in pins.values():
                shares_of(pin)  # short names may mean one device
            devices = select_devices(
                registry,
                arguments.devices,
                options=options,
                strict=arguments.strict,
                pinned=[share.device for found in shares.values() for share in found],
                graph=model.graph,
                model=model.label,
                policy=arguments.chosen_policy,
            )
    except MaceError as error:
        if isinstance(error, PluginError) or error.has_context:  # no mistake of the caller's
            error.add_context(model.label)
        raise
    return devices, pins


def own_constants(graph: Graph, registry: Registry, label: str) -> ComputedConstants | None:
    """What computes the constants that the optimizer left to the session; None where there are none."""
    if not graph.computed:
        return None
    from mace_core.scheduler.running.computed import ComputedConstants

    found = ComputedConstants(registry, label)
    for constant in graph.computed:
        constant.owner = found
    return found


def planner_of(
    arguments: SessionArguments,
    model: PreparedModel,
    pool: DevicePool,
    pins: Mapping[str, str],
    constants: ComputedConstants | None,
) -> Planner:
    """What makes the session's plans; ``pins``: with qualified names of devices.

    Raises:
        UsageError: if a pin matches nothing.
    """
    check_pins_match(pins, model.graph, model.label)
    return Planner(
        label=model.label,
        pool=pool,
        compile_with=model.compile,
        resolve=model.resolve,
        remembered=RememberedPlacements(model, pool, strict=arguments.strict),
        keep_sized=model if arguments.cache else None,
        pin=pin_lookup(pins),
        strict=arguments.strict,
        capacity=arguments.max_signatures,
        opset_imports=model.graph.opset_imports,
        numerics=arguments.numerics(model.label),
        constants=constants,
    )


def _prepare(model: Model, arguments: SessionArguments, registry: Registry) -> PreparedModel:
    """The model, with what depends on constants alone computed on the host."""
    opened: list[HostConstants] = []

    def compute(graph: Graph) -> list[Tensor]:
        if not opened:
            from mace_core.scheduler.running.constants import HostConstants

            opened.append(HostConstants(registry))
        return opened[0](graph)

    try:
        # a node that is pinned is to run there, and one whose numbers are checked is to show them
        may_defer = not arguments.pins and not arguments.check_numerics
        constants = Constants(compute, host_provider_code(registry), may_defer)
        return prepare_model(
            model,
            optimize=arguments.optimize,
            cache=arguments.cache,
            mmap=arguments.mmap,
            constants=constants,
            trust=arguments.trust,
            signature=arguments.signature,
            dynamic_range=arguments.dynamic_range,
            processing=arguments.processing,
        )
    finally:
        for host in opened:
            host.close()


def _label_of(model: Model) -> str:
    """How messages call a model that is not loaded yet."""
    return f"'{os.fspath(model)}'" if isinstance(model, str | os.PathLike) else "the model"
