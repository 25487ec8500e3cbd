"""Any convolution, plainly."""
