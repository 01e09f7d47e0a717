"""The benchmark: what `scripts/bench` runs."""
