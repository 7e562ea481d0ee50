"""This module keeps what patients allow and forbid us to send them, by medium and purpose, and says what follows.

All that was said is kept; what was said last of the same medium and purpose counts. A general *no* holds for every
purpose and medium, until a later *yes* takes it back for just that one; a general *yes* (such as to be treated) allows
nothing in particular.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from broker.canonical.model import Event
from broker.ids import show
from broker.sql import Connection
from dispatch.patients.consents import clock
from dispatch.patients.times import moment

if TYPE_CHECKING:
    from dispatch.consent import Needs  # who writes to the patient store needs no declarations

_SAID: Final = (
    "INSERT INTO permission (patient_id, delivery_id, medium, purpose, decision, said_at, starts_at, ends_at, "
    "recorded_at) {v}",
    "bigint bigint text text text double double double double",
)
_WHO: Final = (
    "SELECT s.id, s.deceased FROM patient p JOIN patient s ON s.id = COALESCE(p.survivor_id, p.id) "
    "WHERE p.mrn_value = ? AND p.mrn_system = ? AND p.mrn_type = ?"
)
_STANDING: Final = (
    "SELECT c.medium, c.purpose, c.decision, c.said_at, c.starts_at, c.ends_at, c.delivery_id FROM permission c "
    "JOIN patient p ON p.id = c.patient_id WHERE (p.id = ? OR p.survivor_id = ?) AND c.medium IN ('', ?) "
    "AND c.purpose IN ('', ?) ORDER BY c.said_at, c.decision DESC"
)


class Permission(NamedTuple):
    """What a patient says yes or no to; empty: any medium, any purpose. Times in POSIX seconds."""

    medium: str
    purpose: str
    decision: str  # permit, deny
    said_at: float | None  # None: when it is recorded
    starts_at: float | None = None
    ends_at: float | None = None


class Standing(NamedTuple):
    """What is said of one medium and purpose, in general too, the oldest first: each with the delivery that said it."""

    has_died: bool
    said: Sequence[tuple[Permission, int]]


def permission_of(event: Event) -> Permission | None:
    """Return what an event says that its patient allows or forbids; None where it says nothing of it."""
    said = event.consent
    if said is None or said.status in {"draft", "proposed"}:
        return None
    decision = said.decision or {"consent.given": "permit", "consent.withdrawn": "deny"}.get(event.kind)
    if event.kind == "consent.withdrawn" or (decision and said.status not in {None, "active"}):
        decision = "deny"
    if decision not in {"permit", "deny"}:
        return None
    return Permission(
        said.channel or "",
        said.purpose or "",
        decision,
        moment(said.given_at or event.occurred_at),
        moment(said.starts_at),
        moment(said.ends_at, is_end=True),
    )


def write_permissions(connection: Connection, told: Iterable[tuple[int, int, Permission | None]], now: float) -> None:
    """Write what was said, within the present transaction: patient, delivery and what it says of each."""
    rows = [
        (patient, delivery, *said[:3], now if said.said_at is None else said.said_at, *said[4:], now)
        for patient, delivery, said in told
        if said is not None
    ]
    connection.bulk(*_SAID, rows)


def read_standing(connection: Connection, key: Sequence[str], medium: str, purpose: str) -> Standing:
    """Return what is said by the patient with a medical record number, and by those merged into them."""
    who = connection.rows(_WHO, tuple(key))
    if not who:
        return Standing(has_died=False, said=())
    patient, has_died = who[0]
    rows = connection.rows(_STANDING, (patient, patient, medium, purpose))
    return Standing(bool(has_died), [(Permission(*row[:6]), row[6]) for row in rows])


def refusal(standing: Standing, medium: str, purpose: str, needs: "Needs", now: float) -> str:
    """Return why the patient may not be reached; nothing where they may.

    ``needs`` says whether they must have said yes, or only must not have said no. ``now`` in POSIX seconds.
    """
    if standing.has_died:
        return "the patient has died, as the patient store has it"
    what = f"{medium} for {purpose}"
    said = _in_force(standing.said, now)
    for no, delivery in said:
        if no.decision == "deny" and not any(_takes_back(yes, no, medium, purpose) for yes, _ in said):
            return f"consent to {what} was withdrawn at {clock(no.said_at or 0.0)} (delivery {show(delivery)})"
    is_given = any(yes.decision == "permit" and yes.purpose == purpose for yes, _ in said)
    return "" if is_given or needs == "not_withdrawn" else f"nobody has consented to {what}"


def _in_force(said: Sequence[tuple[Permission, int]], now: float) -> list[tuple[Permission, int]]:
    """Return what was said last of each medium and purpose, unless it is over; what it replaced does not come back."""
    begun = [each for each in said if each[0].starts_at is None or each[0].starts_at <= now]
    last = {(one.medium, one.purpose): (one, delivery) for one, delivery in begun}
    return [each for each in last.values() if each[0].ends_at is None or now < each[0].ends_at]


def _takes_back(yes: Permission, no: Permission, medium: str, purpose: str) -> bool:
    """Say whether a *yes* came later than a *no* and is of just what that is of, or of just what is asked."""
    return (
        yes.decision == "permit"
        and (yes.said_at or 0.0) > (no.said_at or 0.0)
        and yes.medium in {no.medium, medium}
        and yes.purpose in {no.purpose, purpose}
    )
