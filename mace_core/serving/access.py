"""Who may ask: tokens of clients."""

from __future__ import annotations

import hmac

from mace_core.serving.failures import Fault, ServingError


class Door:
    """Lets requests in that bring the token, or all where there is none."""

    def __init__(self, token: str) -> None:
        self._wanted = token.encode()

    def check(self, authorization: str | bytes | None) -> None:
        """Look at the value of a request's ``Authorization``.

        Raises:
            ServingError: if it is not the one that is asked for.
        """
        if not self._wanted:
            return
        given = authorization or b""
        if isinstance(given, str):
            given = given.encode("utf-8", "replace")
        scheme, _, found = given.strip().partition(b" ")
        if not hmac.compare_digest(found.strip(), self._wanted) or scheme.lower() != b"bearer":
            raise ServingError(Fault.NO_TOKEN, "this server asks for a token: send 'Authorization: Bearer TOKEN'")
