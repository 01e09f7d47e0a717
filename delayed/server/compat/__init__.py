"""The HTTP interfaces of other systems, for their clients."""
