"""The version of mace-core."""

VERSION = "0.1.0"
