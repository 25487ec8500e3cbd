"""The version of mace-opencl."""

VERSION = "0.1.0"
