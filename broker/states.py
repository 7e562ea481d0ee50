"""This module holds every state and every legal move, as two literal tables; the docs diagram is printed from them."""

from typing import Final

MESSAGE: Final[dict[str, frozenset[str]]] = {
    "received": frozenset({"processed", "filtered", "failed"}),
    "failed": frozenset({"received", "discarded"}),  # replay, discard
    "processed": frozenset(),
    "filtered": frozenset(),
    "discarded": frozenset(),
}

DELIVERY: Final[dict[str, frozenset[str]]] = {
    "waiting": frozenset({"sending", "suppressed", "expired", "cancelled"}),
    "sending": frozenset({"delivered", "waiting", "held", "dead", "suppressed"}),
    "held": frozenset({"waiting", "discarded"}),  # replay, discard
    "dead": frozenset({"waiting", "discarded"}),  # replay, discard
    "delivered": frozenset(),
    "suppressed": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
    "discarded": frozenset(),
}

# What an operator must look at.
DEAD: Final = frozenset({"held", "dead"})
