"""The version of mace-cpu."""

VERSION = "0.1.0"
