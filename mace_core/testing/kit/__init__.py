"""The parts of the conformance kit, one file per promise; `mace_core.testing.conformance` puts them together."""
