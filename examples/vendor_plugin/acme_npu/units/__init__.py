"""What the simulated processor computes: one file per family, each with its kernels and what they need to know."""
