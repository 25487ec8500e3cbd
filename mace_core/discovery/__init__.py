"""Which plugins are installed beside the core, read from entry points and remembered between processes."""
