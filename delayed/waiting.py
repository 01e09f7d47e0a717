"""Waiting tasks: finds, cancels, moves and removes them."""

from .queue.waiting import Waiting, Wanted, at, cancel, find, move, remove, search

__all__ = ["Waiting", "Wanted", "at", "cancel", "find", "move", "remove", "search"]
