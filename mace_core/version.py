"""The version of mace-core."""

VERSION = "0.1.0"
"""The version of the distribution mace-core."""
