"""The text protocol: see docs/text-protocol.md."""
