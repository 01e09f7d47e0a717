"""Values that every wing uses."""
