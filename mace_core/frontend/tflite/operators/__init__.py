"""How operators are imported: a module for each family (see `mace_core.frontend.tflite.registry`)."""
