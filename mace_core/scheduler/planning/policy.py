"""How devices are chosen: in an order, or by what a placement will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_core.errors import PluginError, UsageError, UsageTypeError
from mace_core.provider import DeviceKind, hooks

if TYPE_CHECKING:
    from mace_core.provider import Device
    from mace_core.scheduler.placing.choose import Choice
    from mace_core.scheduler.placing.problem import Problem


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to place models on devices.

    Attributes:
        name: as a user gives it.
        objective: ``latency``, ``overlapped``, ``throughput`` or ``energy``: devices are chosen node by node so that
            this becomes least; "": the first device in order that runs a node has it.
        kinds: kinds of devices that come first in the order, the first of them first.
        only: kinds of devices that are used at all; empty: all.
        partitions: the most partitions that a placement by cost makes.
        gain: the share of the cost that leaving the device in front must save.
        split: the share of the cost that computing nodes in parts on two devices must save; None: they are not split.
    """

    name: str
    objective: str = ""
    kinds: tuple[DeviceKind, ...] = ()
    only: frozenset[DeviceKind] = field(default_factory=frozenset)
    partitions: int = 16
    gain: float = 0.03
    split: float | None = None

    @property
    def by_cost(self) -> bool:
        """Whether it decides node by node, by what a placement costs."""
        return bool(self.objective) or self.decides_itself

    @property
    def decides_itself(self) -> bool:
        """Whether it has code of its own for that: what that decides is not kept for the next process."""
        return type(self).decide is not Policy.decide

    def ordered(self, devices: Sequence[Device]) -> list[Device]:
        """The devices that it uses, in its order of preference."""
        ranks = {kind: rank for rank, kind in enumerate(self.kinds)}
        used = [device for device in devices if not self.only or device.kind in self.only]
        return sorted(used, key=lambda device: ranks.get(device.kind, len(ranks)))

    def decide(self, problem: Problem, home: int) -> Choice:
        """The placement for a problem; a policy of one's own may override this (see `mace_core.policies`).

        Args:
            problem: what the units cost on each device, and what borders cost.
            home: the device that units leave only where that pays.
        """
        from mace_core.scheduler.placing.choose import Limits, choose
        from mace_core.scheduler.placing.objective import Objective

        limits = Limits(partitions=self.partitions, gain=self.gain)
        return choose(problem, Objective(self.objective), home=home, limits=limits)


ORDER = Policy("order")
LATENCY = Policy("latency", "overlapped", split=0.05)
"""The default where no devices are named: least time of a run."""
POLICIES = {
    policy.name: policy
    for policy in (
        ORDER,
        LATENCY,
        Policy("throughput", "throughput"),
        Policy("power", "energy"),
        Policy("prefer_gpu", kinds=(DeviceKind.GPU,)),
        Policy("prefer_npu", kinds=(DeviceKind.NPU, DeviceKind.APU, DeviceKind.DSP)),
        Policy("cpu_only", only=frozenset({DeviceKind.CPU})),
    )
}
"""The policies that there are without any plugin, by name."""


def policy_of(given: object, *, named_devices: bool) -> Policy:
    """The policy that a user gives, or the default: devices in the order given; by latency where none are named.

    Raises:
        UsageError: if there is no such policy.
        PluginError: if a plugin's policies cannot be had.
    """
    if given is None:
        return ORDER if named_devices else LATENCY
    if isinstance(given, Policy):
        return given
    if not isinstance(given, str):
        raise UsageTypeError(f"policy is a name such as 'latency', or a Policy, not {given!r}")
    found = POLICIES.get(given)
    if found is not None:
        return found
    added = _of_plugins()
    if given not in added:
        raise UsageError(f"there is no policy '{given}'; there are {', '.join([*POLICIES, *added])}")
    return added[given]


def _of_plugins() -> dict[str, Policy]:
    """The policies that plugins add, by name; none replaces one that there is anyway.

    Raises:
        PluginError: if a plugin answers with something else.
    """
    found: dict[str, Policy] = {}
    for policy in hooks.registered_policies():
        if not isinstance(policy, Policy):
            raise PluginError(f"mace_register_policies of a plugin returned {policy!r}, which is not a Policy")
        if policy.name in POLICIES or policy.name in found:
            raise PluginError(f"mace_register_policies of a plugin adds the policy '{policy.name}', which there is")
        found[policy.name] = policy
    return found
