"""The version of mace-testing."""

VERSION = "0.1.0"
