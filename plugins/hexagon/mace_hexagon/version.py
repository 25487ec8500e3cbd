"""The version of mace-hexagon."""

VERSION = "0.1.0"
