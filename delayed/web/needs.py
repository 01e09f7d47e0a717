"""Says what the web UI needs that is not installed."""

from importlib.util import find_spec

from ..errors import ConfigurationError

_MISSING = [name for name in ("jinja2", "starlette") if find_spec(name) is None]
if _MISSING:
    raise ConfigurationError(f"the web UI needs {' and '.join(_MISSING)}: pip install 'delayedq[ui]'")
