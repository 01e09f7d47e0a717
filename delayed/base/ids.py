"""Random tokens and digests."""

import hashlib
import secrets


def digest(text: str) -> str:
    """The SHA-1 of a text, in hexadecimal: what stands in a key for a name of any length."""
    return hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()


def token() -> str:
    """Something that nobody can guess and nobody has used: 96 random bits in 16 characters, the first of which is no hyphen,
    as people write it on command lines."""
    text = secrets.token_urlsafe(12)
    return f"_{text[1:]}" if text[0] == "-" else text


def new_id() -> str:
    """An id for a tracked task that nobody has used: give it to `enqueue` where an enqueue may have to be repeated."""
    return token()
