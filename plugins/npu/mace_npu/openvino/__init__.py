"""The driver for Intel's NPUs, through OpenVINO."""
