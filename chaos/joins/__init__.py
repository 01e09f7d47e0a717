"""The storm over workflows: random graphs, kills, and the verdict on their joins."""
