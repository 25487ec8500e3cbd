"""NPU execution provider: looks for OpenVINO and the NPU driver.  It cannot run anything in this version."""

from mace_npu.version import VERSION as __version__

__all__ = ["__version__"]
