"""How exactly a converted model computes: what ``data_type`` and ``quantize`` of MACE are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.deployment.schema import GraphKeys
from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import UsageError
from mace_core.graph.copying import copy_graph
from mace_core.quantization import Quantizer, Settings
from mace_core.quantization.settings import DATA_SCHEMES, SCHEMES

if TYPE_CHECKING:
    from mace_core.deployment.samples import Feeds
    from mace_core.graph import Graph
    from mace_core.quantization.outcome import Outcome

WEIGHTS_ALONE = "weights"
"""8-bit weights that are computed with in float32."""

WORDS = {
    "static": "int8",
    "1": "int8",
    "on": "int8",
    "0": "",
    "off": "",
    "none": "",
    WEIGHTS_ALONE: WEIGHTS_ALONE,
    **{scheme: scheme for scheme in SCHEMES},
}
"""What ``--quantize`` may be, and the scheme that it is."""

_SCHEMAS = {
    "": ("int8", False, ""),
    "uint8": ("int8", False, ""),
    "int8": ("int8", False, ""),
    "mace_apu_16bit_per_tensor": ("a16w8", True, "tensor"),
    "mace_htp_u16a_s8w": ("a16w8", False, ""),
}
"""Of ``quantize_schema``: scheme, symmetric activations, granularity of weights."""

CARRIED_OPTIONS = {"cpu": frozenset({"precision", "winograd"})}
"""By provider, the options that a converted model carries with it: of a package that says others, they are not taken,
for some name libraries to load."""

_STORED = {"fp16_fp32": "float16", "fp16_fp16": "float16", "bf16_fp32": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Precision:
    """What is to be done.

    Attributes:
        settings: of a quantization; None for none.
        stored: the form in which float weights lie in the package: "float16", "bfloat16", "int8" or "" for float32.
        options: for providers, when the model runs; of `CARRIED_OPTIONS` alone.
        notes: what of it is something else than in MACE.
        is_quantized: what comes of it computes in fewer bits; such models have a threshold of their own.
    """

    settings: Settings | None
    stored: str
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_quantized: bool = False

    @property
    def needs_data(self) -> bool:
        """Whether ranges have to be found on samples."""
        return self.settings is not None and self.settings.scheme in DATA_SCHEMES

    @property
    def words(self) -> str:
        """For a table."""
        if self.settings is not None:
            algorithm = f" ({self.settings.algorithm})" if self.needs_data else ""
            return f"{self.settings.scheme}{algorithm}"
        if self.is_quantized:
            return "as it was quantized"
        return {"": "float32", "int8": "8-bit weights"}.get(self.stored, f"{self.stored} weights")


def precision_of(keys: GraphKeys, quantize: str | None, algorithm: str, is_quantized: bool) -> Precision:
    """What a graph of a deployment file and the command line ask for.

    Args:
        quantize: of the command line, one of `WORDS`; None where it says nothing.
        algorithm: that finds the ranges.
        is_quantized: the model is quantized already.
    """
    scheme = (
        ("int8" if keys.quantize else WEIGHTS_ALONE if keys.quantize_large_weights else "")
        if (quantize is None)
        else WORDS[quantize]
    )
    notes: list[str] = []
    options: dict[str, dict[str, object]] = {}
    if keys.winograd == "0":
        options["cpu"] = {"winograd": False}
    if is_quantized:
        if scheme:
            notes.append("the model is quantized already; it stays as it is")
        return Precision(None, "", options, tuple(notes), is_quantized=True)
    if scheme and scheme != WEIGHTS_ALONE:
        by_file, symmetric, granularity = _SCHEMAS[keys.quantize_schema]
        if quantize is None or WORDS[quantize] == "int8":
            scheme = by_file
        elif keys.quantize_schema:
            notes.append(f"quantize_schema {keys.quantize_schema} does not hold: the command line says {scheme}")
        settings = Settings(scheme, algorithm, granularity if scheme == "a16w8" else "", symmetric=symmetric)
        return Precision(settings, "", options, tuple(notes), is_quantized=True)
    data_type = keys.data_type or "fp16_fp32"
    if data_type == "uint8":
        notes.append("data_type uint8 is that of quantized models, and quantize is not 1: float32 is computed")
    if data_type == "fp16_fp16":
        notes.append(
            "data_type fp16_fp16: weights are stored in float16; what is computed in it is the device's choice"
        )
    if data_type == "bf16_fp32":
        options.setdefault("cpu", {})["precision"] = "bfloat16"
    stored = "int8" if scheme == WEIGHTS_ALONE else _STORED.get(data_type, "")
    return Precision(None, stored, options, tuple(notes))


def quantized(
    graph: Graph,
    settings: Settings,
    samples: Sequence[Feeds] | None,
    target: Path,
    place: str,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Outcome:
    """Write a quantized copy of a graph as an ONNX file.

    Args:
        samples: by the graph's own names.
        target: the file to write.
        ranges: of its tensors, found elsewhere.

    Raises:
        ConfigError: if it cannot be quantized.
    """
    copy, _ = copy_graph(graph)
    try:
        return Quantizer(copy, settings).run(target, data=samples, ranges=ranges)
    except UsageError as error:
        raise ConfigError(f"{place}: {error}") from None
