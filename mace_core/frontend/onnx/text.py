"""Text in protobuf messages, which need not be text."""

from __future__ import annotations


def text(field: str | bytes) -> str:
    """The content of a ``string`` field.

    Protobuf does not check that it is UTF-8; its implementations raise or give bytes for other text.

    Raises:
        UnicodeDecodeError: if it is not UTF-8.
    """
    return field if isinstance(field, str) else field.decode("utf-8")


def text_or_bytes(field: bytes) -> str | bytes:
    """The content of a ``bytes`` field that usually holds text: as text where it is UTF-8."""
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError:
        return field
