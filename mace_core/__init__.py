"""An inference framework whose execution providers are plugins.

    import mace_core as mace
    session = mace.Session("model.onnx")
    outputs = session.run({"x": array})

Importing this package is cheap: names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_core.version import VERSION as __version__

if TYPE_CHECKING:
    from mace_core import custom_ops, errors, graph, operators, provider, tensor
    from mace_core.binding import Binding
    from mace_core.bound_arrays import BoundArrays
    from mace_core.compilation import compile_model as compile
    from mace_core.custom_ops import custom_op
    from mace_core.frontend.load import load_model
    from mace_core.provider.execution import CancelFlag
    from mace_core.provider.listing import devices
    from mace_core.session import Session
    from mace_core.streaming import Stream
    from mace_core.tensor.foreign import DmaBuf

_LAZY = {
    "Binding": ("mace_core.binding", "Binding"),
    "BoundArrays": ("mace_core.bound_arrays", "BoundArrays"),
    "CancelFlag": ("mace_core.provider.execution", "CancelFlag"),
    "DmaBuf": ("mace_core.tensor.foreign", "DmaBuf"),
    "Session": ("mace_core.session", "Session"),
    "Stream": ("mace_core.streaming", "Stream"),
    "compile": ("mace_core.compilation", "compile_model"),
    "custom_op": ("mace_core.custom_ops", "custom_op"),
    "custom_ops": ("mace_core.custom_ops", None),
    "devices": ("mace_core.provider.listing", "devices"),
    "errors": ("mace_core.errors", None),
    "graph": ("mace_core.graph", None),
    "load_model": ("mace_core.frontend.load", "load_model"),
    "operators": ("mace_core.operators", None),
    "provider": ("mace_core.provider", None),
    "tensor": ("mace_core.tensor", None),
}

__all__ = [
    "Binding",
    "BoundArrays",
    "CancelFlag",
    "DmaBuf",
    "Session",
    "Stream",
    "__version__",
    "compile",
    "custom_op",
    "custom_ops",
    "devices",
    "errors",
    "graph",
    "load_model",
    "operators",
    "provider",
    "tensor",
]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module 'mace_core' has no attribute '{name}'") from None
    loaded = importlib.import_module(module)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
