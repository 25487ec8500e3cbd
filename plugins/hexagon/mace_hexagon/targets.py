"""Qualcomm's chips: QNN's numbers for them and the HTP architecture each has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Soc:
    """One chip.

    Attributes:
        id: how users write it (``sm8650``).
        name: the marketing name.
        number: QNN's number (``soc_model``).
        arch: version of its HTP (75 for v75).
    """

    id: str
    name: str
    number: int
    arch: int

    @property
    def computes_floats(self) -> bool:
        """Whether its HTP has float16 arithmetic."""
        return self.arch >= 69


SOCS = (
    Soc("sm8350", "Snapdragon 888", 30, 68),
    Soc("sm8450", "Snapdragon 8 Gen 1", 36, 69),
    Soc("sm8475", "Snapdragon 8+ Gen 1", 42, 69),
    Soc("sm8550", "Snapdragon 8 Gen 2", 43, 73),
    Soc("sc8380xp", "Snapdragon X Elite", 60, 73),
    Soc("sm8650", "Snapdragon 8 Gen 3", 57, 75),
    Soc("sm8750", "Snapdragon 8 Elite", 69, 79),
    Soc("sm8850", "Snapdragon 8 Elite Gen 5", 87, 81),
)

EMULATED = {soc.arch: soc for soc in reversed(SOCS)}
"""The chip that stands for an architecture when it is emulated: the first one listed."""


def find_soc(device_id: str) -> Soc | None:
    """The chip of a device id: its own (``sm8650``), or that of an architecture (``v75``)."""
    if device_id.startswith("v") and device_id[1:].isdigit():
        return EMULATED.get(int(device_id[1:]))
    return next((soc for soc in SOCS if soc.id == device_id), None)
