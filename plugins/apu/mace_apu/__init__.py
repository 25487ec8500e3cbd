"""MediaTek APU execution provider, through the system's Neuron Adapter."""

from mace_apu.version import VERSION as __version__

__all__ = ["__version__"]
