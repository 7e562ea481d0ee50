"""Records become JSON under the promised keys."""

from dataclasses import dataclass

from broker.queries import Brief, DeadLetter
from console.plain import iso, patient_to_json, to_json


@dataclass(frozen=True)
class Kept:
    """Like a record of the patient store."""

    id: int
    updated_at: float
    admitted_at: str | None
    parts: tuple[Brief, ...] = ()


def test_ids_and_times_are_written_as_people_read_them() -> None:
    """And ``class_`` loses its underscore."""
    letter = DeadLetter((1 << 50) + 1, 1 << 50, "adt", "ADT^A08", "ehr", None, "dead", "rejected", "422", None, 1.5, 2)
    found = to_json([letter])[0]
    assert (found["id"], found["message_id"]) == ("0010000000001", "0010000000000")
    assert (found["class"], found["failed_at"], found["attempts"]) == ("rejected", "1970-01-01T00:00:01.500Z", 2)
    assert found["step"] is None


def test_patient_store_keeps_its_numbers_and_what_senders_said() -> None:
    """Only times of ours change their form."""
    found = patient_to_json((Kept(7, 0.0, "20260101"),))
    assert found == [{"id": 7, "updated_at": "1970-01-01T00:00:00.000Z", "admitted_at": "20260101", "parts": []}]


def test_iso_is_utc_with_milliseconds() -> None:
    """Whatever the machine's zone."""
    assert iso(1_000_000_000.1234) == "2001-09-09T01:46:40.123Z"
