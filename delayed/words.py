"""Words for people, and what they meant."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun, in the plural (by default with an s) unless it is one."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def is_number(value: object) -> bool:
    """Whether somebody who was asked for a number has given one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Likewise, for a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
