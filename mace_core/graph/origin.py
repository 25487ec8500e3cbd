"""Where a node comes from: the layer of the model as its author wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

LONGEST_CODE = 80
"""Characters of a line of source that a message shows."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The part of a user's own model that a node was exported from, as the exporter tells it; "" for what it does not.

    Attributes:
        module: path of the layer in the model: ``layers.0.norm`` (PyTorch), ``encoder/dense_1`` (Keras).
        kind: class of the layer, ``torch.nn.modules.batchnorm.BatchNorm2d``.
        file: source file of the user's model.
        line: number of the line in it, 0 where that is not known.
        code: the line.
    """

    module: str = ""
    kind: str = ""
    file: str = ""
    line: int = 0
    code: str = ""

    def __str__(self) -> str:
        """``layer 'layers.0.norm' (BatchNorm2d), net.py:7 `return self.norm(x)```, as messages show it."""
        kind = self.kind.rpartition(".")[2]
        layer = f"layer '{self.module}'" if self.module else "the model itself" if kind else ""
        parts = [f"{layer} ({kind})" if kind else layer]
        if self.file:
            code = self.code if len(self.code) <= LONGEST_CODE else f"{self.code[:LONGEST_CODE]}…"
            parts.append(f"{PurePath(self.file).name}:{self.line}" + (f" `{code}`" if code else ""))
        return ", ".join(part for part in parts if part)
