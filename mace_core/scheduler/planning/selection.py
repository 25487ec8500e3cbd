"""Which devices a session uses: those the user names, or all real ones; and who takes what they leave over."""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Container, Mapping, Sequence

from mace_core.discovery.entry_points import describe
from mace_core.errors import DeviceNotFoundError, MaceError, PluginError, UsageError
from mace_core.faults import limits_now
from mace_core.graph import Graph
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, hooks
from mace_core.provider.inventory import find_device, inventory, is_real, probe
from mace_core.provider.plugin_status import PluginState
from mace_core.provider.registry import CUSTOM, REFERENCE, Registry
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.planning.policy import ORDER, Policy

_log = logging.getLogger("mace")

Options = Mapping[str, Mapping[str, object]]

_IMPORTS_COMPUTED_SINCE = ApiVersion(1, 3)

HOST_PROVIDER = "cpu"
"""The provider that takes what named accelerators decline, where it is installed."""


class _Role(enum.Enum):
    """Why a session has a device."""

    OFFERED = "one of the real ones, where none is named"
    NAMED = "named by the user"
    FALLBACK = "takes what the others leave over"
    PINNED = "takes the nodes that are pinned to it, and no others"


def select_devices(
    registry: Registry,
    names: Sequence[str] | None,
    *,
    options: Options,
    strict: bool,
    pinned: Sequence[str] = (),
    graph: Graph,
    model: str = "",
    policy: Policy = ORDER,
    for_execution: bool = True,
) -> list[SessionDevice]:
    """The devices in order of priority.

    Args:
        registry: where providers are found.
        names: ``provider`` or ``provider:id`` each, or None for all real devices (accelerators, then CPUs).
        options: per provider, or per device under its qualified name (which goes over the provider's).
        strict: only the devices named, or the real ones of the inventory; no fallback.
        graph: the model, for plugins that choose among devices.
        model: how messages call it.
        policy: may prefer kinds of devices, or leave others out.
        pinned: devices that pins name; added for pinned nodes only where they are not among the others.
        for_execution: False: those named may be targets to compile for.

    Raises:
        DeviceNotFoundError, PluginError, UsageError: for names and options that mean nothing here.
    """
    first = _by_priority(registry, names, options, graph, policy, for_execution=for_execution)
    have = {device.qualified_name for device, _ in first}
    last = [] if strict else _fallbacks(registry, have, are_named=names is not None)
    have |= {device.qualified_name for device, _ in last}
    pins = [_find(name, registry, options) for name in dict.fromkeys(pinned)]
    chosen = [*((device, _Role.PINNED) for device in pins if device.qualified_name not in have), *first, *last]
    if not chosen:
        raise UsageError(
            "there is no device to run on: no real device was found and strict placement rules out the reference; "
            "install a provider (pip install mace-cpu) or name a device"
        )
    _check_options(options, [device for device, _ in chosen], registry)
    return [_session_device(device, role, registry, options, model, policy) for device, role in chosen]


def _by_priority(
    registry: Registry,
    names: Sequence[str] | None,
    options: Options,
    graph: Graph,
    policy: Policy,
    *,
    for_execution: bool,
) -> list[tuple[Device, _Role]]:
    """The devices named, each once; without names the real ones, as far and in the order that plugins choose."""
    if names is None:
        real = inventory(registry).real_devices
        offered = [device for device in real if device.provider not in (REFERENCE, CUSTOM)]
        preferred = hooks.select_devices(offered, graph) if offered else None
        return [(device, _Role.OFFERED) for device in policy.ordered(preferred or offered)]
    named = [names] if isinstance(names, str) else names
    found = [_find(name, registry, options, for_execution=for_execution) for name in named]
    distinct = {device.qualified_name: device for device in found}
    used = policy.ordered(list(distinct.values()))
    if not used:
        raise UsageError(f"the policy '{policy.name}' uses none of the devices named: {', '.join(distinct)}")
    return [(device, _Role.NAMED) for device in used]


def _fallbacks(registry: Registry, have: Container[str], *, are_named: bool) -> list[tuple[Device, _Role]]:
    """What takes the nodes that others leave over: custom operators, the CPU under named devices, the reference."""
    found: list[Device] = []
    if CUSTOM in registry.names() and f"{CUSTOM}:0" not in have:
        found.append(find_device(CUSTOM, registry))
    if are_named:
        found += [device for device in host_devices(registry) if device.qualified_name not in have]
    if REFERENCE in registry.names() and f"{REFERENCE}:0" not in have:
        found.append(find_device(REFERENCE, registry))
    return [(device, _Role.FALLBACK) for device in found]


def _find(name: str, registry: Registry, options: Options, *, for_execution: bool = True) -> Device:
    """The device a user names, under the options given for it."""
    given = {**options.get(name.partition(":")[0], {}), **options.get(name, {})}
    return find_device(name, registry, options=given, for_execution=for_execution)


def host_devices(registry: Registry) -> list[Device]:
    """The CPU provider's devices, where it is installed and works; only this one provider is asked."""
    if HOST_PROVIDER not in registry.names():
        return []
    try:
        return [device for device in probe(HOST_PROVIDER, registry).devices if is_real(device)]
    except PluginError as error:
        _log.warning("nodes that the devices named decline cannot go to the CPU provider: %s", error)
        return []


def host_provider_code(registry: Registry) -> str:
    """Name and code of the provider that computes on the host, for cache keys; nothing is loaded for it."""
    if HOST_PROVIDER not in registry.names():
        return REFERENCE
    return f"{HOST_PROVIDER} {registry.code(HOST_PROVIDER)}"


def host_advice(registry: Registry) -> str:
    """Why the CPU provider takes nothing off the reference, and what to do; "" where it is there and works."""
    try:
        status = registry.status(HOST_PROVIDER)
    except DeviceNotFoundError:
        return "the CPU provider is not installed: pip install mace-cpu"
    if status.state is PluginState.DISABLED:
        return f"the CPU provider is installed and switched off: {status.reason}"
    if status.state in (PluginState.OK, PluginState.NOT_LOADED):
        return ""
    return f"the CPU provider cannot be used: {status.reason}"


def resolve_device_name(name: str, registry: Registry, options: Options) -> str:
    """The qualified name of a device a user names shortly; some are found only under the options given for them."""
    return _find(name, registry, options).qualified_name


def _session_device(
    device: Device, role: _Role, registry: Registry, options: Options, model: str, policy: Policy
) -> SessionDevice:
    given = {**options.get(device.provider, {}), **options.get(device.qualified_name, {})}
    provider: ExecutionProvider = registry.provider(device.provider)
    full = {**provider.policy_options.get(policy.name, {}), **given}
    limits = limits_now()
    return SessionDevice(
        device=device,
        open_backend=lambda: _open(registry, provider, device, full, limits.open_seconds),
        limits=limits,
        has_options=bool(given),
        model=model,
        named=role in (_Role.NAMED, _Role.PINNED),
        is_fallback=role is _Role.FALLBACK,
        only_pinned=role is _Role.PINNED,
        provider_code=registry.code(device.provider),
        imports_computed=provider.api_version >= _IMPORTS_COMPUTED_SINCE,
        options_key=json.dumps(full, sort_keys=True, default=str),
        compile_options=_compile_options(provider, full),
    )


def _compile_options(provider: ExecutionProvider, given: Mapping[str, object]) -> str:
    """The options that a stored form may depend on beside the provider's compatibility key."""
    if provider.key_covers_options is True:
        return "{}"
    own = {name: value for name, value in given.items() if name not in provider.probe_options}
    return json.dumps(own, sort_keys=True, default=str)


def _open(
    registry: Registry, provider: ExecutionProvider, device: Device, given: Mapping[str, object], seconds: float
) -> Backend:
    """The backend of ``device``, waited for ``seconds``.

    Raises:
        UsageError: if the provider refuses the options, with whatever words.
        GivenUpError: if it took too long.
    """
    try:
        return registry.calls(device.provider).call(
            seconds,
            device.provider,
            "opening a device",
            lambda: provider.open(device, given),
            limit="open_seconds",
            late=lambda opened: opened.close(),
        )
    except MaceError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        if not given:
            raise
        options = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise UsageError(
            f"{device.qualified_name} cannot be opened with the options {options}: {describe(error)}"
        ) from error


def _check_options(options: Options, devices: Sequence[Device], registry: Registry) -> None:
    """Options must be known to their provider, in use or not, and of a device in use: what has no effect is a mistake.

    Raises:
        UsageError: naming what does not fit.
        DeviceNotFoundError: if a device is named that its provider does not have.
    """
    used = {device.provider for device in devices} | {device.qualified_name for device in devices}
    for name, given in options.items():
        provider_name, colon, _ = name.partition(":")
        if provider_name not in registry.names():
            raise UsageError(
                f"options are given for '{name}', which is not a provider here; {registry.suggestion(name)}"
            )
        known = registry.provider(provider_name).options
        for option in given:
            if option not in known:
                offered = ", ".join(sorted(known)) or "none"
                raise UsageError(f"the provider '{provider_name}' has no option '{option}'; its options: {offered}")
        if name in used:
            continue
        if colon:
            _find(name, registry, options)
        if given:
            in_use = ", ".join(device.qualified_name for device in devices)
            raise UsageError(
                f"options are given for '{name}' ({', '.join(given)}), which is not in use: this session has {in_use}; "
                f"name '{name}' as a device, or leave its options out"
            )
