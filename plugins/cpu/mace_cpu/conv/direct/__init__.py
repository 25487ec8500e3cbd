"""The direct kernel: lanes are channels."""
