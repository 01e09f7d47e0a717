"""The web UI: pages for operators, and what their forms do."""

from . import needs as needs  # before the others: it says what to install
from .access import Access, Authenticate, OneTimeToken, User, by_header, everyone, passwords
from .application import app, below

__all__ = ["Access", "Authenticate", "OneTimeToken", "User", "app", "below", "by_header", "everyone", "passwords"]
