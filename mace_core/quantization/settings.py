"""What can be chosen about a quantization."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mace_core.errors import UsageError
from mace_core.quantization.grids import Grid
from mace_core.quantization.ranges import ALGORITHMS, PERCENTILE
from mace_core.tensor import DType

SCHEMES = ("int8", "a16w8", "int4-weight", "fp16", "bf16", "dynamic")

DATA_SCHEMES = ("int8", "a16w8")
"""Those that cannot do without calibration data."""

SIZED_SCHEMES = (*DATA_SCHEMES, "dynamic", "int4-weight")
"""Those in which each weight may have fewer bits or stay in float."""

ROUNDINGS = ("nearest", "gptq", "adaround")

DEFAULT_BLOCK = 32
"""Numbers along the inner dimension that share a scale in 4-bit weights."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is quantized.

    Attributes:
        scheme: "int8": 8-bit activations and weights; "a16w8": 16-bit activations, 8-bit weights; "int4-weight":
            weights alone, in 4 bits; "fp16", "bf16": narrower floats; "dynamic": 8-bit weights, and activations by the
            range of each run.
        algorithm: chooses the range of activations, one of `ALGORITHMS`.
        granularity: of weights: "channel", "tensor" or "block:N"; "" for what is usual for the scheme.
        exclude: patterns of names and operator types of nodes that stay in float.
        symmetric: activations have a zero point in the middle.
        percentile: of the algorithm "percentile".
        rounding: of weights: "nearest"; "gptq", which makes up for errors in the weights that follow, on the data; or
            "adaround", which learns from the data whether to round up or down.
        corrects_bias: biases make up for the mean error of rounded weights, on the data.
        equalizes: channels of neighboring layers are made as large as each other before.
    """

    scheme: str = "int8"
    algorithm: str = "minmax"
    granularity: str = ""
    exclude: tuple[str, ...] = ()
    symmetric: bool = False
    percentile: float = PERCENTILE
    rounding: str = "nearest"
    corrects_bias: bool = False
    equalizes: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: for a setting that means nothing, or nothing for the scheme.
        """
        if self.scheme not in SCHEMES:
            raise UsageError(f"there is no scheme '{self.scheme}'; choose one of {', '.join(SCHEMES)}")
        if self.algorithm not in ALGORITHMS:
            raise UsageError(f"there is no algorithm '{self.algorithm}'; choose one of {', '.join(ALGORITHMS)}")
        if self.rounding not in ROUNDINGS:
            raise UsageError(f"there is no rounding '{self.rounding}'; choose one of {', '.join(ROUNDINGS)}")
        if self.granularity and not re.fullmatch(r"channel|tensor|block:[1-9]\d{0,5}", self.granularity):
            raise UsageError(f"the granularity is channel, tensor or block:N, not '{self.granularity}'")
        if self.block and self.scheme != "int4-weight":
            raise UsageError(f"blocks of weights are for the scheme int4-weight; {self.scheme} takes channel or tensor")

    @property
    def needs_data(self) -> bool:
        """Whether the scheme cannot do without calibration data."""
        return self.scheme in DATA_SCHEMES or (self.scheme == "int4-weight" and self.rounding != "nearest")

    @property
    def block(self) -> int:
        """Weights in a block; 0 if they are not in blocks."""
        if self.granularity.startswith("block:"):
            return int(self.granularity.removeprefix("block:"))
        return DEFAULT_BLOCK if self.scheme == "int4-weight" and not self.granularity else 0

    @property
    def is_per_channel(self) -> bool:
        """Whether weights have a scale for each output channel."""
        return self.granularity in ("", "channel")

    @property
    def activation_grid(self) -> Grid:
        """The integers of activations."""
        return Grid(DType.UINT16 if self.scheme == "a16w8" else DType.UINT8, self.symmetric)

    @property
    def weight_grid(self) -> Grid:
        """The integers of weights."""
        return Grid(DType.INT4 if self.scheme == "int4-weight" else DType.INT8, True)

    def words(self) -> dict[str, str]:
        """What was chosen, for people; what does not matter for the scheme is left out."""
        granularity = self.granularity or (f"block:{self.block}" if self.block else "channel")
        words = {"scheme": self.scheme}
        if self.scheme in DATA_SCHEMES:
            share = f" {self.percentile:g}" if self.algorithm == "percentile" else ""
            words |= {
                "algorithm": f"{self.algorithm}{share}",
                "activations": "symmetric" if self.symmetric else "asymmetric",
            }
        if self.scheme not in ("fp16", "bf16"):
            words |= {"granularity": granularity, "rounding": self.rounding}
        if self.corrects_bias:
            words["biases"] = "corrected"
        if self.equalizes:
            words["layers"] = "equalized"
        if self.exclude:
            words["excluded"] = ", ".join(self.exclude)
        return words

    @property
    def operators(self) -> tuple[str, ...]:
        """Those whose weights the scheme stores as integers."""
        if self.scheme in ("fp16", "bf16"):
            return ()
        if self.scheme == "int4-weight":
            return ("Gemm", "MatMul", "Gather")
        return ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")

    @property
    def opset(self) -> int:
        """The first opset of the standard domain that can say what the scheme writes."""
        return {"a16w8": 21, "int4-weight": 21, "bf16": 22}.get(self.scheme, 13)
