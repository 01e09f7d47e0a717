"""Kills, stops and cuts off everything at random, and judges what became of the tasks: scripts/chaos and scripts/soak."""
