"""The version of mace-npu."""

VERSION = "0.1.0"
