"""`python -m benchmarks.providers`: what each provider computes, compared with the CPU provider."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.providers.networks import NETWORKS, Network, Verdict
from benchmarks.providers.places import PLACES, Place, look_for, place
from mace_core import Session
from mace_core.errors import MaceError
from mace_core.presentation import Column, Table, number
from mace_core.provider.device import Device

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A network on a device.

    Attributes:
        device: where it ran.
        is_virtual: whether that is a stand-in, a simulator or an emulation.
        network: its name.
        partitions: how many subgraphs the network is for the device; 0 where it did not run.
        verdict: how the results compare; None where it did not run.
        reason: why it did not.
    """

    device: str
    is_virtual: bool
    network: str
    partitions: int = 0
    verdict: Verdict | None = None
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return self.verdict is not None and self.verdict.agrees


def expected(network: Network) -> list[Array]:
    """What the CPU provider computes."""
    return _run(network, ["cpu"])[0]


def compare(network: Network, at: Place, device: Device, right: Sequence[Array]) -> Row:
    """Run a network on a device alone: no node may go elsewhere."""
    try:
        found, partitions = _run(network, [at.device])
    except MaceError as error:
        return Row(at.device, device.is_virtual, network.name, reason=" ".join(str(error).split()))
    verdict = network.compare(found, right, at)
    return Row(at.device, device.is_virtual, network.name, partitions, verdict)


def _run(network: Network, devices: list[str]) -> tuple[list[Array], int]:
    results = []
    with Session(network.model(), devices=devices, strict=True, cache=False) as session:
        for x in network.inputs():
            (result,) = session.run({session.inputs[0].name: x}).values()
            results.append(np.array(result))
        return results, len(session.explain().partitions)


def measure(networks: Iterable[Network], places: Iterable[Place]) -> Iterator[Row]:
    """Every network at every place that has it."""
    found = [(at, look_for(at)) for at in places]
    for network in networks:
        right: list[Array] | None = None
        for at, device in found:
            if at.networks and network.name not in at.networks:
                continue
            if isinstance(device, str):
                yield Row(at.device, False, network.name, reason=device)
                continue
            right = expected(network) if right is None else right
            yield compare(network, at, device, right)


def table(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    columns = (Column("network"), Column("device"), Column("is"), number("parts"), number("of range"), Column("also"))
    cells = [
        (
            row.network,
            row.device,
            "virtual" if row.is_virtual else "real",
            str(row.partitions),
            f"{row.verdict.of_range:.1e}",
            f"{row.verdict.also}{'' if row.agrees else '  TOO FAR OFF'}".strip(),
        )
        for row in rows
        if row.verdict is not None
    ]
    return Table(columns, cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if every network agrees everywhere, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.providers", description=__doc__)
    names = [network.name for network in NETWORKS]
    parser.add_argument("--network", action="append", choices=names, help="one network; may be repeated")
    known = ", ".join(each.device for each in PLACES)
    parser.add_argument("--device", action="append", help=f"a device; may be repeated (default: {known})")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args(arguments)
    networks = [network for network in NETWORKS if given.network is None or network.name in given.network]
    places = [place(name) for name in given.device] if given.device else PLACES
    rows = []
    for row in measure(networks, places):
        rows.append(row)
        state = "not run" if row.verdict is None else "agrees" if row.agrees else "TOO FAR OFF"
        sys.stderr.write(f"{row.network} on {row.device}: {state}\n")
    sys.stdout.write(f"{table(rows).text()}\n")
    for row in rows:
        if row.verdict is None:
            sys.stdout.write(f"{row.network} did not run on {row.device}: {row.reason}\n")
    if given.json:
        data = [{**asdict(row), "agrees": row.agrees} for row in rows]
        given.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.agrees for row in rows) else 1
