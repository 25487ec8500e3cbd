"""ConvTranspose as convolutions, one per phase of the result."""
