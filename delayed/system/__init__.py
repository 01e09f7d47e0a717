"""The operating system: signals, systemd, processes."""
