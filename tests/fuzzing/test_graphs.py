"""Random graphs give the same results however their nodes are spread over cpu, reference and the example vendor."""

from __future__ import annotations

import hypothesis
import pytest
from mace_testing.fuzzing.graphs import GraphCase, decide_partitions, graph_cases

from mace_core.errors import DeviceNotFoundError
from mace_core.provider import find_device

DEVICES = ("cpu:0", "reference:0", "acme:sim0")


@pytest.fixture(scope="module")
def devices() -> list[str]:
    for name in DEVICES:
        try:
            find_device(name)
        except DeviceNotFoundError as error:
            pytest.skip(str(error))
    return list(DEVICES)


def _check(case: GraphCase, devices: list[str]) -> None:
    verdict = decide_partitions(case, devices)
    assert not verdict.is_failure, f"{case!r}: {verdict.detail}"


@hypothesis.settings(max_examples=25)
@hypothesis.given(case=graph_cases())
def test_every_partition_gives_the_same_result(case: GraphCase, devices: list[str]) -> None:
    _check(case, devices)


@pytest.mark.full
@hypothesis.settings(max_examples=400)
@hypothesis.given(case=graph_cases(largest=16))
def test_every_partition_of_larger_graphs_gives_the_same_result(case: GraphCase, devices: list[str]) -> None:
    _check(case, devices)
