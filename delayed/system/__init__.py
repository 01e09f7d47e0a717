"""The operating system: handles signals, systemd and processes."""
