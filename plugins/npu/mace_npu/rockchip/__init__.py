"""The driver for Rockchip's NPUs, through rknn-toolkit2 in a Python environment of its own."""
