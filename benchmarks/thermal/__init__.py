"""Simulated heat: how warm a sustained video workload makes a small device, with the governor and without.

Simulated are the device's heat and its clock.  Measured on this machine is what a frame costs in each mode.
"""
