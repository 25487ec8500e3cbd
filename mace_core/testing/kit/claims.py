"""Devices, options and claims: what a provider says about itself."""

from __future__ import annotations

import pytest

from mace_core.errors import UsageError
from mace_core.graph import Graph
from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.testing.cases import Case
from mace_core.testing.graphs import feeds_for
from mace_core.testing.kit.base import KitBase
from mace_core.testing.kit.comparing import is_convex, is_sentence
from mace_core.testing.runner import view_of


class ClaimChecks(KitBase):
    """Every device and node is answered for, with reasons."""

    def test_probe_never_raises_and_gives_a_reason_for_what_is_missing(self, provider: ExecutionProvider) -> None:
        for _ in range(2):
            found = provider.probe()
            assert all(device.provider == provider.name for device in found.devices)
            assert len({device.id for device in found.devices}) == len(found.devices), "two devices share an id"
            assert all(is_sentence(missing.reason) for missing in found.missing)
            assert found.devices or found.missing, "neither a device nor a reason why there is none"

    def test_an_unknown_option_is_refused(self, provider: ExecutionProvider, device: Device) -> None:
        with pytest.raises(UsageError, match="no_such_option"):
            provider.open(device, {"no_such_option": 1})

    def test_options_refuse_values_they_cannot_take(self, provider: ExecutionProvider, device: Device) -> None:
        for name, explanation in provider.options.items():
            assert is_sentence(explanation), f"option '{name}' is not explained"
            with pytest.raises(UsageError, match=name):
                provider.open(device, {**self.declaration.options, name: object()}).close()

    def test_options_that_bring_in_devices_are_options(self, provider: ExecutionProvider) -> None:
        assert provider.probe_options <= set(provider.options), "probe_options names options the provider does not have"
        assert provider.probe_with({}).devices == provider.probe().devices

    def test_options_of_policies_can_be_taken(self, provider: ExecutionProvider, device: Device) -> None:
        for options in provider.policy_options.values():
            provider.open(device, {**self.declaration.options, **options}).close()

    def test_every_node_is_answered_once_and_claims_are_convex(self, backend: Backend, mixed: Graph) -> None:
        view = view_of(mixed, feeds_for(mixed))
        capability = backend.capability(view)
        claimed = {node for claim in capability.claims for node in claim.nodes}
        rejected = {rejection.node for rejection in capability.rejections}
        assert claimed | rejected == set(view.nodes), "some nodes are neither claimed nor rejected"
        assert not claimed & rejected, "some nodes are claimed and rejected at once"
        for claim in capability.claims:
            if claim.atomic:
                assert is_convex(mixed, set(claim.nodes)), "an atomic claim is not convex"

    def test_the_claim_is_what_was_declared(self, backend: Backend, case: Case) -> None:
        capability = backend.capability(view_of(case.graph(), case.feeds()))
        for rejection in capability.rejections:
            assert is_sentence(rejection.reason), f"'{rejection.reason}' is no reason a user can act on"
        reasons = "; ".join(rejection.reason for rejection in capability.rejections)
        if self.declaration.claims(case):
            assert capability.claims, f"{case.op_type} in {case.dtype} is declared, but declined: {reasons}"
        else:
            assert not capability.claims, "claimed, but not declared: the declaration is out of date"
