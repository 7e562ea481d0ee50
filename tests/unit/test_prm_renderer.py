"""The request for the patient store: an event, with a head to recognise it by."""

from dataclasses import replace

import orjson
import pytest

from broker.canonical.codec import decode
from broker.canonical.model import (
    WITHOUT_PATIENT,
    Concept,
    Condition,
    Consent,
    Encounter,
    Event,
    Identifier,
    Merge,
    Name,
    Patient,
    Source,
)
from broker.delivery import Delivery, Rejected
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from dispatch.patients.said import MISSHAPEN, Said, read
from dispatch.prm import PrmSpec

MRN = Identifier(value="0012", system="MERCY", type="MR")
VISIT = Encounter(identifier=Identifier(value="V1", system="MERCY"))


def event(kind: str = "patient.updated", **fields: object) -> Event:
    """Return an event about one patient."""
    whole = {"kind": kind, "source": Source(application="ADT"), "patient": Patient(mrn=MRN, family="Okafor"), **fields}
    return Event(**whole)  # type: ignore[arg-type]


def request(told: Event | None) -> bytes:
    """Render an event as a worker does."""
    render = PrmSpec().build_renderer(kit=None)
    return render(Document(message=Message.parse(b"MSH|^~\\&|"), received_at=0.0, event=told))


def said(told: Event) -> Said:
    """Render an event and read the request again."""
    result = read(Delivery(id=65, route=1, key="", request=request(told)))
    assert isinstance(result, Said)
    return result


def test_request_carries_what_the_store_keeps_and_no_chart() -> None:
    told = event(encounter=VISIT, occurred_at="2026-01-01", cleared=("patient.telecom",))
    assert decode(request(told).partition(b"\n")[2]) == told
    assert request(replace(told, conditions=(Condition(code=Concept(code="I10")),), notes=("secret",))) == request(told)


def test_head_tells_what_the_event_is_about() -> None:
    told = said(event(encounter=VISIT, occurred_at="2026-01-01"))
    assert (told.kind, told.occurred_at, told.sender) == ("patient.updated", "2026-01-01", ("ADT", ""))
    assert (told.key, told.visit, told.retired) == (("0012", "MERCY", "MR"), ("V1", "MERCY"), None)


def test_digests_are_equal_only_when_the_effect_is() -> None:
    plain = said(event(encounter=VISIT))
    assert said(event(encounter=VISIT, occurred_at="2026-01-01")).digest == plain.digest
    assert said(event(patient=Patient(mrn=MRN, family="Obi"))).digest != plain.digest
    cleared = said(event(encounter=VISIT, cleared=("patient.telecom",)))
    assert cleared.digest != plain.digest
    assert cleared.visit_digest != said(event(encounter=VISIT, cleared=("encounter.location",))).visit_digest
    discharged = said(event("encounter.discharged", encounter=VISIT))
    assert (discharged.digest == plain.digest, discharged.visit_digest == plain.visit_digest) == (True, False)


def test_merge_is_about_two_numbers() -> None:
    told = event("patient.merged", merge=Merge(mrn=Identifier(value="7"), identifiers=()))
    assert said(told).retired == ("7", "", "")


@pytest.mark.parametrize(
    ("kind", "old", "retired"),
    [
        ("patient.identifier_changed", Identifier(value="7", system="MERCY", type="MR"), ("7", "MERCY", "MR")),
        ("patient.identifier_changed", MRN, None),  # its account or visit number changed
        ("patient.identifier_changed", Identifier(value="7", system="MERCY", type="SS"), None),
        ("patient.account_moved", Identifier(value="7", system="MERCY", type="MR"), None),
    ],
)
def test_record_number_that_changed_lives_on_in_the_new_one(
    kind: str, old: Identifier, retired: tuple[str, str, str] | None
) -> None:
    assert said(event(kind, merge=Merge(mrn=old, identifiers=(old,)))).retired == retired


@pytest.mark.parametrize("kind", sorted(WITHOUT_PATIENT))
def test_rendering_fails_for_an_event_about_no_patient(kind: str) -> None:
    with pytest.raises(StepError, match=f"{kind} is about no patient; keep it out with `when: patient.mrn`"):
        request(event(kind, patient=Patient()))


def test_rendering_fails_when_no_step_made_an_event() -> None:
    with pytest.raises(StepError, match="add a `canonical` step before"):
        request(None)


@pytest.mark.parametrize(
    ("told", "location"),
    [
        (event(patient=Patient(family="Okafor")), "PID-3"),
        (event(patient=Patient(mrn=Identifier(value=""), family="Okafor")), "PID-3"),
        (event("patient.merged"), "MRG-1"),
    ],
)
def test_rendering_fails_when_nobody_can_say_whose_event_it_is(told: Event, location: str) -> None:
    with pytest.raises(StepError, match="nobody can say") as caught:
        request(told)
    assert caught.value.location == location
    assert "Okafor" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"", b"nonsense", b"[]", b"{}\n{}", b'["a"]\n{}', b"[1,2,3,4,5,6,7,8,9,0]\n{}"])
def test_request_that_is_none_of_ours_is_refused(bad: bytes) -> None:
    result = read(Delivery(id=65, route=1, key="", request=bad))
    assert isinstance(result, Rejected)
    assert result == MISSHAPEN


def test_head_is_small_beside_the_event() -> None:
    head, _, _body = request(event(encounter=VISIT)).partition(b"\n")
    assert len(orjson.loads(head)) == 10
    assert len(head) < 200


@pytest.mark.parametrize(
    ("told", "place"),
    [
        (event(patient=Patient(mrn=MRN, family="D\0oe")), "patient.family"),
        (event(patient=Patient(mrn=replace(MRN, value="00\x0012"))), "patient.mrn.value"),
        (event(source=Source(application="A\0T")), "source.application"),
        (event(patient=Patient(mrn=MRN, names=(Name(given=("A", "\0")),))), "patient.names[0].given[1]"),
        (event("consent.given", patient=Patient(mobile="+1\0"), consent=Consent(decision="permit")), "patient.mobile"),
    ],
)
def test_nul_that_a_message_or_a_step_made_is_told_with_its_place(told: Event, place: str) -> None:
    with pytest.raises(StepError, match=r"has a NUL character, which no database keeps") as refused:
        request(told)
    assert refused.value.location == place


def test_text_that_only_looks_like_an_escaped_nul_is_stored() -> None:
    assert rb"\\u0000" in request(event(patient=Patient(mrn=MRN, family=r"\u0000")))
