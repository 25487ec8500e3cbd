"""Conv and ConvTranspose; a folder per kernel."""
