"""Files of devices as MACE has them (``--device_yml``): boards and phones, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from mace_core.deployment.libraries import TARGETS
from mace_core.deployment.read import keys_without_value, mistakes_in
from mace_core.deployment.schema import abi_names
from mace_core.deployment.values import Text, Texts
from mace_core.deployment.yaml_tree import ConfigError, Document, read_document


class Device(BaseModel):
    """One device.

    Attributes:
        target_abis, target_socs: what it takes.
        models: what its maker calls it.
        address, username, password: how MACE reaches it; nothing is reached here.
        system: arm_linux or android.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    target_abis: Annotated[tuple[str, ...], BeforeValidator(abi_names)]
    target_socs: Texts = ()
    device_name: Text = ""
    models: Text = ""
    address: Text = ""
    username: Text = ""
    password: Text = ""
    system: Text = ""


class DevicesFile(BaseModel):
    """A file of devices."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    devices: dict[str, Device]


def read_devices(path: Path) -> tuple[dict[str, Device], Document]:
    """The devices of a file, by their names.

    Raises:
        ConfigError: for a file that cannot be read, and for every key or value that means nothing.
    """
    document = read_document(path)
    try:
        found = DevicesFile.model_validate(keys_without_value(document))
    except ValidationError as error:
        levels = {1: ("devices",), 3: tuple(Device.model_fields)}
        raise ConfigError(mistakes_in(document, error, levels)) from None
    if not found.devices:
        raise ConfigError(f"{document.label}: it names no device")
    return found.devices, document


def served(devices: dict[str, Device], abis: Sequence[str]) -> list[str]:
    """Sentences on which ABI serves which device, and which device gets nothing."""
    sentences = []
    for name, device in devices.items():
        where = f"{name}{f' at {device.address}' if device.address else ''}"
        common = [abi for abi in abis if TARGETS[abi] in {TARGETS[each] for each in device.target_abis}]
        if common:
            sentences.append(f"the device {where} takes what is built for {common[0]}")
        else:
            wanted = ", ".join(device.target_abis)
            sentences.append(f"nothing is built for the device {where}, which takes {wanted}: add it to target_abis")
    return sentences
