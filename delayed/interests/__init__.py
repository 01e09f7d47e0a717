"""Which queues have an interest in what is published: patterns, and how they are matched."""
