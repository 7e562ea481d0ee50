"""Appointments: SCH with its times, its status and everything that is booked for it."""

import pytest

from broker.canonical.model import Appointment, Concept, Identifier, Location
from broker.errors import StepError
from tests.mapping import PID, PV1, mapped, segment

SCH = segment("SCH", f1="P1^MERCY", f2="F1^MERCY", f6="MOVED^Moved", f7="CHECKUP^Annual check-up", f8="NORMAL")


def appointment(*segments: str, kind: str = "SIU^S12", **fields: str) -> Appointment:
    """Return the appointment of a message; ``fields`` are those of SCH."""
    found = mapped(kind, segment("SCH", **{"f1": "P1", **fields}), *segments, PID).appointment
    assert found is not None
    return found


def test_appointment_is_mapped_field_by_field() -> None:
    event = mapped(
        "SIU^S12",
        SCH,
        "TQ1|||||||20240601093000-0500|20240601102000-0500|A",
        "NTE|1||Bring your card",
        "NTE|2||and be early",
        PID,
        PV1,
        "NTE|1||of the patient",
        "RGS|1",
        "AIS|1|A|76164006^Biopsy^SCT|20240601093000|||50|min",
        "AIG|1||5001^Colonoscope|101^Equipment",
        "AIL|1||CLINIC^R1^^MERCY",
        "AIP|1||1210^Lind^Maja~1211^Berg|010^Gastroenterologist",
        "RGS|2",
        "AIP|1||1210^Lind^Maja|010^Gastroenterologist",
        "AIL|2|D|GONE",
    )
    found = event.appointment
    assert found is not None
    assert event.kind == "appointment.booked"
    assert (found.identifier, found.filler) == (
        Identifier(value="P1", system="MERCY"),
        Identifier(value="F1", system="MERCY"),
    )
    assert (found.status, found.priority, found.minutes) == ("booked", "A", 50)
    assert (found.starts_at, found.ends_at) == ("2024-06-01T09:30:00-05:00", "2024-06-01T10:20:00-05:00")
    assert found.reason == Concept(code="CHECKUP", text="Annual check-up")
    assert (found.event_reason, found.type) == (Concept(code="MOVED", text="Moved"), Concept(code="NORMAL"))
    assert found.services == (Concept(code="76164006", system="SCT", text="Biopsy"),)
    assert found.resources == (Concept(code="5001", text="Colonoscope"),)
    assert found.locations == (Location(facility="MERCY", point_of_care="CLINIC", room="R1"),)
    assert [(person.family, person.role) for person in found.practitioners] == [
        ("Lind", "Gastroenterologist"),
        ("Berg", "Gastroenterologist"),
    ]
    assert found.comment == "Bring your card\nand be early"


@pytest.mark.parametrize(
    ("trigger", "kind", "status"),
    [
        ("S12", "appointment.booked", "booked"),
        ("S13", "appointment.rescheduled", "booked"),
        ("S14", "appointment.updated", "booked"),
        ("S15", "appointment.cancelled", "cancelled"),
        ("S16", "appointment.cancelled", "cancelled"),
        ("S17", "appointment.cancelled", "entered-in-error"),
        ("S20", "appointment.updated", "booked"),
        ("S26", "appointment.no_show", "noshow"),
    ],
)
def test_trigger_gives_kind_and_status(trigger: str, kind: str, status: str) -> None:
    event = mapped(f"SIU^{trigger}", "SCH|1", PID)
    assert event.appointment is not None
    assert (event.kind, event.appointment.status) == (kind, status)


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        ("Arrived", "appointment.arrived", "arrived"),
        ("CHECKED IN", "appointment.arrived", "arrived"),
        ("Complete", "appointment.arrived", "fulfilled"),
        ("No-Show", "appointment.no_show", "noshow"),
        ("Canceled", "appointment.cancelled", "cancelled"),
        ("Pending", "appointment.updated", "pending"),
        ("whatever", "appointment.updated", "booked"),
    ],
)
def test_change_is_what_the_status_says(said: str, kind: str, status: str) -> None:
    event = mapped("SIU^S14", segment("SCH", f1="1", f25=said), PID)
    assert event.appointment is not None
    assert (event.kind, event.appointment.status) == (kind, status)


def test_cancellation_stays_one_whatever_the_status_says() -> None:
    assert appointment(kind="SIU^S15", f25="Booked").status == "cancelled"


@pytest.mark.parametrize(
    ("amount", "unit", "minutes"),
    [
        ("60", "s", 1),
        ("70", "Min", 70),
        ("2", "hr^hour", 120),
        ("45", "", 45),
        ("1", "d", 1440),
        ("30", "fortnights", None),
        ("-5", "min", None),
        ("much", "min", None),
        ("99999999999", "d", None),
    ],
)
def test_length_is_in_minutes_whatever_its_unit(amount: str, unit: str, minutes: int | None) -> None:
    assert appointment(f9=amount, f10=unit).minutes == minutes


@pytest.mark.parametrize(
    ("fields", "segments", "expected"),
    [
        ({"f11": "^^M30^20240601093000^20240601100000"}, (), ("2024-06-01T09:30:00", "2024-06-01T10:00:00", 30)),
        ({"f11": "^^^20240601093000", "f9": "30", "f10": "m"}, (), ("2024-06-01T09:30:00", "2024-06-01T10:00:00", 30)),
        ({}, ("AIG|1||R|||||20240601100000|||20|min",), ("2024-06-01T10:00:00", "2024-06-01T10:20:00", 20)),
        (
            {},
            ("AIL|1||L|||20240601110000", "AIP|1||1^A|||20240601100000|||1|h"),
            ("2024-06-01T10:00:00", "2024-06-01T11:00:00", 60),
        ),
        ({}, ("TQ1||||||30^min|20240601",), ("2024-06-01", None, 30)),
        ({}, ("TQ1|||||||soon",), (None, None, None)),
        ({}, ("TQ1||||||30^min|99991231235900",), ("9999-12-31T23:59:00", None, 30)),
    ],
)
def test_times_are_taken_from_where_senders_put_them(
    fields: dict[str, str], segments: tuple[str, ...], expected: tuple[str | None, str | None, int | None]
) -> None:
    found = appointment(*segments, **fields)
    assert (found.starts_at, found.ends_at, found.minutes) == expected


def test_request_asks_for_a_time() -> None:
    event = mapped("SRM^S01", segment("ARQ", f1="P1", f7="CHECKUP", f9="30", f11="20240601093000", f14="U"), PID)
    found = event.appointment
    assert found is not None
    assert (event.kind, found.status, found.starts_at, found.priority) == (
        "appointment.requested",
        "proposed",
        "2024-06-01T09:30:00",
        "U",
    )


def test_answer_without_an_appointment_is_told_without_one() -> None:
    assert mapped("SRR^S01", "MSA|AE|1", PID).appointment is None
    answered = mapped("SRR^S01", "MSA|AA|1", segment("SCH", f1="1", f25="Booked"), PID)
    assert answered.appointment is not None
    assert answered.appointment.status == "booked"


@pytest.mark.parametrize(
    ("kind", "segments", "location"),
    [
        ("SIU^S12", (PID,), "SCH"),
        ("SRM^S01", (PID,), "ARQ"),
        ("SIU^S12", ("SCH|1",), "PID"),
        ("SIU^S12", ("SCH|1", PID, PID), "PID"),
    ],
)
def test_what_cannot_be_mapped_fails_at_its_location(kind: str, segments: tuple[str, ...], location: str) -> None:
    with pytest.raises(StepError) as caught:
        mapped(kind, *segments)
    assert caught.value.location == location
