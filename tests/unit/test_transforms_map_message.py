"""Which mapping a message gets, by its code and trigger, however the sender writes them."""

import contextlib

import pytest

from broker.canonical.model import KINDS, WITHOUT_PATIENT, Patient
from broker.errors import StepError
from broker.wire.er7 import Message
from tests.mapping import PID, PV1, mapped, parsed
from transforms import map_account, map_adt, map_appointment, map_document, map_referral, map_staff
from transforms.map_message import MAPPERS, map_message


def test_kinds_are_those_of_the_model() -> None:
    tables = (
        map_adt.TRIGGERS,
        map_appointment.TRIGGERS,
        map_appointment.REQUESTS,
        map_appointment.ANSWERS,
        map_referral.TRIGGERS,
        map_referral.ANSWERS,
        map_document.TRIGGERS,
        map_account.TRIGGERS,
        map_account.CHARGES,
        map_staff.TRIGGERS,
    )
    assert {kind for table in tables for kind in table.values()} <= set(KINDS)


@pytest.mark.parametrize("kind", ["ADT^A08", "ADT^A08^ADT_A01", "adt^a08", "ADT_A01^A08", "^A08^ADT_A01"])
def test_type_is_read_as_senders_write_it(kind: str) -> None:
    assert mapped(kind, PID).kind == "patient.updated"


@pytest.mark.parametrize("kind", ["ADT", "ADT^", "ADT^^ADT_A01", "ADT_A01"])
def test_trigger_comes_from_evn_when_msh_has_none(kind: str) -> None:
    event = mapped(kind, "EVN|A04|20240501", PID)
    assert (event.kind, event.source.message_type) == ("patient.registered", "ADT^A04")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("QBP^Q22", "query.asked"),
        ("QRY^R02", "query.asked"),
        ("RSP^K22", "query.answered"),
        ("ADR^A19", "query.answered"),
        ("ORF^R04", "query.answered"),
        ("ACK^A01", "acknowledgment.received"),
        ("ACK", "acknowledgment.received"),
    ],
)
def test_what_is_about_nobody_passes_through(kind: str, expected: str) -> None:
    event = mapped(kind, "MSA|AA|1", PID, PID)
    assert (event.kind, event.patient, event.occurred_at) == (expected, Patient(), "2024-05-01T10:30:00")
    assert event.kind in WITHOUT_PATIENT


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("ADT^A99", r"maps ADT with A01 .* A62, not A99; filter it out before"),
        ("SIU^Z01", r"maps SIU with S12 .* S26, not Z01"),
        ("SIU", "not a message without a trigger"),
        ("ZZZ^ZZZ", r"maps ADT SIU .*, not ZZZ\^ZZZ"),
        ("", "not a message without a type"),
        ("Okafor^Ngozi", r"not another\^another"),
    ],
)
def test_type_that_is_not_mapped_is_named_with_those_that_are(kind: str, says: str) -> None:
    with pytest.raises(StepError, match=says) as caught:
        mapped(kind, PID, "SCH|1")
    assert caught.value.location == "MSH-9"
    assert "Okafor" not in str(caught.value)


@pytest.mark.parametrize("code", sorted(MAPPERS))
def test_every_mapping_refuses_an_empty_message_with_a_location(code: str) -> None:
    message = Message.parse(f"MSH|^~\\&|A|B|C|D|20240501||{code}|1|P|2.5.1".encode())
    with contextlib.suppress(StepError):
        assert map_message(message).kind in WITHOUT_PATIENT
        return
    with pytest.raises(StepError) as caught:
        map_message(message)
    assert caught.value.location
    assert caught.value.step == "canonical"


def test_places_that_could_not_be_read_are_named() -> None:
    event = mapped("SIU^S12", PID.replace("19620910", "DOB"), f"{PV1}{'|' * 25}yesterday", "SCH|1")
    assert event.unread == ("PID-7", "PV1-44")
    assert event.patient.birth_date is None


def test_places_that_something_else_reads_are_not_named() -> None:
    message = parsed("ADT^A08", PID.replace("19620910", "DOB"))
    assert map_message(message, frozenset({"birth_date"})).unread == ()
