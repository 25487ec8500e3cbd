"""The npu provider under the conformance kit, on OpenVINO's CPU as a stand-in."""

import pytest
from mace_npu.openvino import discovery

from mace_core.testing import Declaration, ProviderConformance

pytestmark = pytest.mark.skipif(discovery.package_folder() is None, reason="pip install mace-npu[openvino]")


class TestOpenVino(ProviderConformance):
    # three thousand compilations
    test_every_form_of_an_operator_is_right_or_declined = pytest.mark.full(
        ProviderConformance.test_every_form_of_an_operator_is_right_or_declined
    )
    declaration = Declaration(
        provider="npu",
        device="openvino-cpu",
        declines={
            "Resize linear": "the factors give no whole size",
            "Relu empty": "OpenVINO has no empty tensors",
            "Add int64": "64-bit integers become 32-bit ones",
            "Sub int64": "64-bit integers become 32-bit ones",
            "Mul int64": "64-bit integers become 32-bit ones",
        },
        serializes=True,
        streams=True,
    )
