"""Models as libraries for C and C++ programs, for processors that need not be this one.

    from mace_core.ahead_of_time import build_library

    build_library("model.onnx", "build", target="arm64-v8a")

writes an object, a static library, a C header and a C++ wrapper.  What is built needs the C library and nothing else.
"""

from mace_core.ahead_of_time.library import BuiltModel, Library, build_library
from mace_core.ahead_of_time.ranges import SizeRange, parse_shape
from mace_core.native.named_targets import TARGET_NAMES

__all__ = ["TARGET_NAMES", "BuiltModel", "Library", "SizeRange", "build_library", "parse_shape"]
