"""The `mace` command: one module per sub-command.  Nothing outside imports this package."""
