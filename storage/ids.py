"""Identifiers: random, safe in an address and in a file name, unguessable (80 bits)."""

import base64
import re
import secrets

_RANDOM_ID = re.compile(r"[a-z2-7]{16}")
_CONTENT_ID = re.compile(r"[0-9a-f]{64}")


def new_id() -> str:
    """Returns 80 random bits as 16 lower-case base32 characters."""
    return base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()


def is_random_id(text: str) -> bool:
    """True for what `new_id` could have returned: such a text is safe as a folder's name."""
    return _RANDOM_ID.fullmatch(text) is not None


def is_content_id(text: str) -> bool:
    """True for a SHA-256 in 64 lower-case hexadecimal digits."""
    return _CONTENT_ID.fullmatch(text) is not None
