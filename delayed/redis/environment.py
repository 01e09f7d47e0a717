"""What the environment says of Redis."""

import os
from pathlib import Path

from ..errors import ConfigurationError

_DEFAULT_URL = "redis://localhost:6379/0"


def url_of_environment() -> str:
    """Where Redis is: DELAYED_REDIS_URL_FILE (a file with the URL), else DELAYED_REDIS_URL, else REDIS_URL, else localhost.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    secret = os.environ.get("DELAYED_REDIS_URL_FILE")
    if secret:
        try:
            return Path(secret).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"DELAYED_REDIS_URL_FILE: {error}") from error
    return os.environ.get("DELAYED_REDIS_URL") or os.environ.get("REDIS_URL") or _DEFAULT_URL
