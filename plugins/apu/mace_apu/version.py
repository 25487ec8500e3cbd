"""The version of mace-apu."""

VERSION = "0.1.0"
