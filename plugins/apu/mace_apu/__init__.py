"""MediaTek APU execution provider: looks for the Neuron Adapter.  It cannot run anything in this version."""

from mace_apu.version import VERSION as __version__

__all__ = ["__version__"]
