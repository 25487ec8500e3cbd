"""An emulated arm64 machine: Debian's Python for it, the wheels of this project and what they need, and qemu-user.

``python -m mace_testing.arm64 -- python3 -m mace_core.cli.main doctor`` runs a command there; without one, the tests
that the checkout has chosen run.
"""
