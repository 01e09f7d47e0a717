"""Small helpers that every other part uses."""
