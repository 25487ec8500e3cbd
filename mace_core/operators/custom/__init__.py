"""Operators of applications: functions made operators; `mace_core.custom_ops` shows them to users."""
