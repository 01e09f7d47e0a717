"""For schemathesis: requests that would wait for minutes wait for a moment, and none for replicas, of which there are none."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    for place in (case.body, case.query):
        if isinstance(place, dict) and isinstance(place.get("wait"), int | float) and 0 < place["wait"] <= 300:
            place["wait"] = 0.01
    if str((case.query or {}).get("durability", "")).startswith("replicas"):
        case.query = {**case.query, "durability": "memory"}
    if case.path.endswith("/events"):  # they would never end
        case.query = {**(case.query or {}), "seconds": 0.01}
