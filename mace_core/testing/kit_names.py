"""Names that the kit and its pytest plugin share; importing them imports nothing else."""

TALLY = "mace_conformance"
"""The property of a test's report that holds what its outcome counts; the plugin sums them up at the end."""
