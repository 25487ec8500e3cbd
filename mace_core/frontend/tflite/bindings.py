"""The classes that Google's flatc made of the schema, out of the packages that publish them.

`tflite` is small, of pure Python, and has what nearly all files use.  What LiteRT added since its last release
(external buffers, scales for blocks) is in the schema of ai-edge-litert, a package of 22 MB for some platforms: it is
looked for where a file needs it.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from mace_core.errors import UnsupportedModelError

KNOWN_DETAILS = 1
"""The greatest kind of quantization details that the small package knows."""


class Bindings:
    """One version of the schema.

    Attributes:
        module: the classes.
        is_newest: whether they know everything that is known here.
    """

    def __init__(self, module: ModuleType, *, is_newest: bool) -> None:
        self.module = module
        self.is_newest = is_newest
        self.builtins = _names(module.BuiltinOperator)
        self.options = _names(module.BuiltinOptions)
        self.options2 = _names(module.BuiltinOptions2)

    def of(self, name: str) -> Any:
        """The class of a table."""
        return getattr(self.module, name)


@functools.cache
def small_bindings() -> Bindings:
    """Those of the package `tflite`.

    Raises:
        UnsupportedModelError: if it is not installed.
    """
    try:
        import tflite
    except ImportError as error:
        raise UnsupportedModelError(
            f"reading TensorFlow Lite models needs the package tflite ({error}): pip install tflite"
        ) from error
    return Bindings(tflite, is_newest=False)


@functools.cache
def newest_bindings() -> Bindings | None:
    """Those of ai-edge-litert; None where it is not installed."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        return None
    return Bindings(schema_py_generated, is_newest=True)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
