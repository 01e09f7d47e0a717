"""Tasks whose arguments are converted by their annotations."""

import enum
from dataclasses import dataclass, field
from decimal import Decimal

from delayed.task.types import by_annotation


class Plan(enum.Enum):
    FREE = "free"
    PAID = "paid"


@dataclass
class Item:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


@by_annotation
def total(items: list[Item], plan: Plan, size: tuple[int, int] = (0, 0)) -> list[object]:
    assert isinstance(size, tuple)
    return [
        sum(item.price for item in items) if plan is Plan.PAID else Decimal(0),
        {tag for item in items for tag in item.tags},
    ]


@by_annotation
async def plan_of(plan: Plan) -> str:
    return plan.name
