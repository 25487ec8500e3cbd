"""How kinds of model files are told from others: apart from what reads them, since every model is looked at for it."""

PACKAGE_MAGIC = b"\x8dMACE\r\n\x1a"
"""The first bytes: not text, and not the same after a transfer that takes it for text."""

PACKAGE_SUFFIX = ".mace"

SAVED_MODEL_GRAPH = "saved_model.pb"
"""The file of that name in the folder of a TensorFlow SavedModel."""


def is_package(head: bytes) -> bool:
    """Whether a file that begins so is a package, or was one."""
    return head.startswith(PACKAGE_MAGIC)
