"""This module tests the standard mapping of ADT messages, on messages written by hand and on other people's."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import KINDS, Address, Encounter, Event, Identifier, Location, Name, Practitioner, Telecom
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_adt import TRIGGERS, map_adt

MSH = "MSH|^~\\&|ADT1^2.16.1^ISO|MERCY|HANDOFF|PRM|20240501103000||ADT^{}|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
PV1 = "PV1|1|I|4EAST^412^B"


def map_segments(*segments: str, trigger: str = "A08") -> Event:
    raw = "\r".join([MSH.format(trigger), *segments])
    event = map_adt(Message.parse(raw.encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def pid(**fields: str) -> str:
    """Write a PID; ``f5="…"`` is PID-5."""
    values = {1: "1", 3: "00123^^^MERCY^MR", **{int(name[1:]): value for name, value in fields.items()}}
    return "|".join(["PID", *(values.get(number, "") for number in range(1, max(values) + 1))])


def pv1(**fields: str) -> str:
    return "PV1" + pid(**{"f3": "", **fields})[3:]


@pytest.fixture
def registration() -> Event:
    """A registration in which every mapped field says something."""
    return map_segments(
        "EVN|A04|20240501102900|||C08^Nurse^A|20240501102800-0500",
        "PID|1|EXT1|00123^^^MERCY&2.16.840.1.113883.19.5&ISO^MR~123-45-6789^^^USSSA^SS|ALT1|"
        "Okafor^Ngozi^Adaeze^Jr^Ms.^MD^L~Eze^Ngozi^^^^^M|Eze|19620910|F||2106-3|"
        "1200 Ash Street^Apt 4B^Springfield^IL^62701^USA^H^^Sangamon||"
        "(217)555-0147^PRN^PH~+12175550199^PRS^CP~^NET^Internet^ngozi@example.org|^WPN^PH^^1^217^5550100|"
        "eng^English|M^Married|CHR|ACC77^^^MERCY^AN|||||||||||20240102030405|Y",
        "PV1|1|E|ED^1^A^MERCY&1.2&ISO^^^MAIN|U||WAIT^2|1234^Adeyemi^Tunde^^^Dr.^^^NPI&2.16.840.1&ISO^L^^^NPI|99^Lind^Maja"
        "||MED|||||||||V001^^^MERCY^VN|||||||||||||||||01||||||||20240501081500|20240501120000",
        trigger="A04",
    )


def test_registration_is_mapped_field_by_field(registration: Event) -> None:
    event = registration
    assert event.kind == "patient.registered"
    assert event.occurred_at == "2024-05-01T10:28:00-05:00"
    assert (event.source.application, event.source.facility) == ("ADT1", "MERCY")
    assert (event.source.control_id, event.source.message_type, event.source.version) == ("MSG1", "ADT^A04", "2.5.1")


def test_patient_is_mapped_field_by_field(registration: Event) -> None:
    patient = registration.patient
    assert patient.mrn == Identifier(value="00123", system="urn:oid:2.16.840.1.113883.19.5", type="MR")
    assert patient.identifiers == (
        patient.mrn,
        Identifier(value="123-45-6789", system="USSSA", type="SS"),
        Identifier(value="EXT1"),
        Identifier(value="ALT1"),
    )
    assert patient.names == (
        Name(family="Okafor", given=("Ngozi", "Adaeze"), suffix="Jr", prefix="Ms.", use="official"),
        Name(family="Eze", given=("Ngozi",), use="maiden"),
    )
    assert (patient.family, patient.given, patient.birth_date, patient.sex) == (
        "Okafor",
        "Ngozi",
        "1962-09-10",
        "female",
    )
    assert patient.telecom == (
        Telecom(value="(217)555-0147", use="home"),
        Telecom(value="+12175550199", use="mobile"),
        Telecom(value="ngozi@example.org", system="email"),
        Telecom(value="+1 217 5550100", use="work"),
    )
    assert (patient.mobile, patient.email) == ("+12175550199", "ngozi@example.org")
    assert patient.addresses == (
        Address(
            lines=("1200 Ash Street", "Apt 4B"),
            city="Springfield",
            district="Sangamon",
            state="IL",
            postal_code="62701",
            country="USA",
            use="home",
        ),
    )
    assert (patient.language, patient.marital_status) == ("eng", "M")
    assert patient.account == Identifier(value="ACC77", system="MERCY", type="AN")
    assert (patient.deceased, patient.deceased_at) == (True, "2024-01-02T03:04:05")


def test_encounter_is_mapped_field_by_field(registration: Event) -> None:
    encounter = registration.encounter
    assert encounter is not None
    assert encounter.identifier == Identifier(value="V001", system="MERCY", type="VN")
    assert (encounter.status, encounter.patient_class, encounter.service) == ("arrived", "E", "MED")
    assert encounter.location == Location(facility="MERCY", building="MAIN", point_of_care="ED", room="1", bed="A")
    assert encounter.prior_location == Location(point_of_care="WAIT", room="2")
    assert encounter.attending == Practitioner(
        identifier=Identifier(value="1234", system="urn:oid:2.16.840.1", type="NPI"), family="Adeyemi", given="Tunde"
    )
    assert encounter.referring == Practitioner(identifier=Identifier(value="99"), family="Lind", given="Maja")
    assert (encounter.admitted_at, encounter.discharged_at) == ("2024-05-01T08:15:00", "2024-05-01T12:00:00")
    assert encounter.disposition == "01"
    assert registration.cleared == ()


@pytest.mark.parametrize(
    ("trigger", "status"),
    [
        ("A01", "in-progress"),
        ("A02", "in-progress"),
        ("A03", "finished"),
        ("A04", "arrived"),
        ("A05", "planned"),
        ("A08", "in-progress"),
        ("A11", "cancelled"),
        ("A13", "in-progress"),
    ],
)
def test_trigger_gives_kind_and_status(trigger: str, status: str | None) -> None:
    event = map_segments(PID, PV1, trigger=trigger)
    assert event.kind == TRIGGERS[trigger]
    assert event.kind in KINDS
    assert event.encounter is not None
    assert event.encounter.status == status


@pytest.mark.parametrize("trigger", ["A28", "A31"])
def test_person_messages_have_no_encounter(trigger: str) -> None:
    event = map_segments(PID, "PV1|1|N", trigger=trigger)
    assert event.encounter is None
    assert event.kind == TRIGGERS[trigger]


def test_encounter_is_none_without_pv1() -> None:
    assert map_segments(PID).encounter is None


def test_planned_stay_takes_its_time_from_pv2() -> None:
    event = map_segments(PID, PV1, "PV2||||||||20240601", trigger="A05")
    assert event.encounter is not None
    assert event.encounter.admitted_at == "2024-06-01"


@pytest.mark.parametrize(
    ("identifiers", "expected"),
    [
        ("1^^^H^SS~2^^^H^MR~3^^^H^MR", ("2", "H", "MR")),
        ("1^^^H^PI~2^^^G^MR", ("2", "G", "MR")),
        ("1^^^H^AN~2^^^H^PT~3^^^H^PI", ("2", "H", "PT")),
        ("1^^^H^VN~2", ("2", "", "")),
        ("  7 ^^^&2.16.840.1&ISO^MR", ("7", "urn:oid:2.16.840.1", "MR")),
        ("7^^^H&2.16.840.1&ISO^MR", ("7", "urn:oid:2.16.840.1", "MR")),
        ("7^^^H&not an oid&ISO^MR", ("7", "H", "MR")),
        ("7^^^H&example.org&DNS^MR", ("7", "H", "MR")),
        ("7^^^&example.org&DNS^MR", ("7", "example.org", "MR")),
        ("7^^^&0A-0B&UUID^MR", ("7", "urn:uuid:0a-0b", "MR")),
        ("^^^H^MR~8", ("8", "", "")),
        ('""^^^H^MR~8', ("8", "", "")),
        ("1^^^H^SS~2^^^H^EPI~3^^^H^PN", ("2", "H", "EPI")),
        ("1^^^H^U~2^^^H^PT", ("2", "H", "PT")),
        ("A\\T\\B\\F\\C^^^H^MR", ("A&B|C", "H", "MR")),
    ],
)
def test_record_number_is_chosen(identifiers: str, expected: tuple[str, str, str]) -> None:
    mrn = map_segments(pid(f3=identifiers)).patient.mrn
    assert mrn is not None
    assert (mrn.value, mrn.system, mrn.type) == expected


@pytest.mark.parametrize("kind", ["SS", "DL", "AN", "VN", "PPN", "XX", "NI", "MC", "EI", "NNESP"])
def test_record_number_is_never_an_identifier_of_another_kind(kind: str) -> None:
    assert map_segments(pid(f3=f"1^^^H^{kind}", f4="2")).patient.mrn is None


def test_record_number_comes_from_pid_2_when_pid_3_is_empty() -> None:
    mrn = map_segments(pid(f2="55^^^OLD", f3="")).patient.mrn
    assert mrn == Identifier(value="55", system="OLD")


@pytest.mark.parametrize(
    ("code", "sex"),
    [
        ("F", "female"),
        ("m", "male"),
        ("O", "other"),
        ("A", "other"),
        ("U", "unknown"),
        ("?", "unknown"),
        ("F^Female", "female"),
        ("", None),
    ],
)
def test_sex_is_of_table_0001(code: str, sex: str | None) -> None:
    assert map_segments(pid(f8=code)).patient.sex == sex


@pytest.mark.parametrize("date", ["DOB", "15/08/1942", "19421301", "194208151", "00000000"])
def test_birth_date_that_is_none_is_left_out(date: str) -> None:
    assert map_segments(pid(f7=date)).patient.birth_date is None


def test_death_date_that_is_none_is_left_out() -> None:
    patient = map_segments(pid(f29="yesterday", f30="Y")).patient
    assert (patient.deceased, patient.deceased_at) == (True, None)


@pytest.mark.parametrize(
    ("time", "flag", "expected"),
    [
        ("", "Y", (True, None)),
        ("", "N", (False, None)),
        ("2024", "", (True, "2024")),
        ("", "", (None, None)),
        ("", "?", (None, None)),
        ("2024", "N", (True, "2024")),
    ],
)
def test_death_is_what_flag_and_time_say(time: str, flag: str, expected: tuple[bool | None, str | None]) -> None:
    patient = map_segments(pid(f29=time, f30=flag)).patient
    assert (patient.deceased, patient.deceased_at) == expected


@pytest.mark.parametrize(
    ("names", "family", "given"),
    [
        ("A^B^^^^^M~C^D^^^^^L", "C", "D"),
        ("A^B^^^^^N~C^D", "C", "D"),
        ("A^B~C^D", "A", "B"),
        ("A^B^^^^^D~C^D^^^^^L", "A", "B"),
        ("A^B^^^^^M", "A", "B"),
        ("^B", None, "B"),
        ("A&von&A^B", "A", "B"),
        ("A^^Middle", "A", "Middle"),
        ("^^^Jr", None, None),
        ("", None, None),
    ],
)
def test_name_that_the_patient_goes_by_is_chosen(names: str, family: str | None, given: str | None) -> None:
    patient = map_segments(pid(f5=names)).patient
    assert (patient.family, patient.given) == (family, given)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("555-0100", Telecom(value="555-0100", use="home")),
        ("^^^^^^^^^^^(217)555-0147", Telecom(value="(217)555-0147", use="home")),
        ("^^^^^217^5550147", Telecom(value="217 5550147", use="home")),
        ("^^^^^^5550147", Telecom(value="5550147", use="home")),
        ("1^WPN^FX", Telecom(value="1", system="fax", use="work")),
        ("1^BPN^BP", Telecom(value="1", system="pager", use="home")),
        ("1^PRN^CP", Telecom(value="1", use="mobile")),
        ("a@b.org^NET", Telecom(value="a@b.org", system="email")),
        ("a@b.org", Telecom(value="a@b.org", system="email")),
        ("^WPN^X.400^a@b.org", Telecom(value="a@b.org", system="email", use="work")),
        ("^NET^Internet", None),
        ("^PRN^PH", None),
    ],
)
def test_telecom_is_read_from_where_senders_put_it(sent: str, expected: Telecom | None) -> None:
    assert map_segments(pid(f13=sent)).patient.telecom == ((expected,) if expected else ())


def test_mobile_is_none_when_its_country_is_not_said() -> None:
    patient = map_segments(pid(f13="(217)555-0147^^CP")).patient
    assert (patient.mobile, patient.telecom[0].use) == (None, "mobile")


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        ("1 Ash St", ("1 Ash St",)),
        ("1 Ash St&Ash St&1^Apt 2", ("1 Ash St", "Apt 2")),
        ("&Ash St&1", ("1 Ash St",)),
        ("^Apt 2", ("Apt 2",)),
        ("^^Springfield", ()),
    ],
)
def test_address_lines_are_those_of_an_envelope(sent: str, lines: tuple[str, ...]) -> None:
    assert map_segments(pid(f11=sent)).patient.addresses[0].lines == lines


def test_empty_address_is_left_out() -> None:
    assert map_segments(pid(f11="^^^^^^H")).patient.addresses == ()


def test_explicit_null_is_told_as_cleared() -> None:
    null = '""'
    event = map_segments(
        pid(f5=null, f7=null, f8=null, f11=null, f13=null, f15=null, f16=null, f18=null, f29=null, f30=null),
        pv1(f2=null, f3=null, f6=null, f7=null, f8=null, f10=null, f36=null, f44=null, f45=null),
    )
    assert set(event.cleared) == {
        *("patient.names", "patient.family", "patient.given", "patient.birth_date", "patient.sex", "patient.addresses"),
        *("patient.telecom", "patient.mobile", "patient.email", "patient.language", "patient.marital_status"),
        *(
            "patient.account",
            "patient.deceased_at",
            "patient.deceased",
            "encounter.patient_class",
            "encounter.location",
        ),
        *("encounter.prior_location", "encounter.attending", "encounter.referring", "encounter.service"),
        *("encounter.disposition", "encounter.admitted_at", "encounter.discharged_at"),
    }
    assert event.patient == type(event.patient)(mrn=event.patient.mrn, identifiers=event.patient.identifiers)
    assert event.encounter == Encounter(status="in-progress")


def test_telecom_is_not_cleared_when_the_other_field_has_numbers() -> None:
    assert map_segments(pid(f13='""', f14="555-0100")).cleared == ()


def test_merge_names_survivor_and_those_that_cease() -> None:
    event = map_segments(PID, "MRG|00999^^^MERCY^MR~X1^^^MERCY^SS", trigger="A40")
    assert event.kind == "patient.merged"
    assert event.merge is not None
    assert event.merge.mrn == Identifier(value="00999", system="MERCY", type="MR")
    assert len(event.merge.identifiers) == 2
    assert event.patient.mrn == Identifier(value="00123", system="MERCY", type="MR")


def test_merge_identifier_alone_has_the_authority_of_the_survivor() -> None:
    event = map_segments(PID, "MRG|00999", trigger="A40")
    assert event.merge is not None
    assert event.merge.mrn == Identifier(value="00999", system="MERCY", type="MR")


@pytest.mark.parametrize(
    ("segments", "trigger", "location"),
    [
        ((PID,), "A40", "MRG-1"),
        ((PID, "MRG|"), "A40", "MRG-1"),
        ((PID, "MRG|1^^^H^SS"), "A40", "MRG-1"),
        ((PID, "MRG|1", PID, "MRG|2"), "A40", "MRG"),
        ((PV1,), "A08", "PID"),
        ((PID, PV1, PID, PV1), "A17", "PID"),
        ((PID, PID), "A08", "PID"),
        ((PID,), "A24", "PID"),
        ((PV1,), "A20", "NPU"),
        (("NPU|",), "A20", "NPU-1"),
        ((PID,), "A99", "MSH-9"),
        ((PID,), "", "MSH-9"),
    ],
)
def test_what_cannot_be_mapped_fails_at_its_location(segments: tuple[str, ...], trigger: str, location: str) -> None:
    with pytest.raises(StepError) as caught:
        map_segments(*segments, trigger=trigger)
    assert caught.value.location == location


def test_trigger_that_is_not_mapped_is_named_with_those_that_are() -> None:
    with pytest.raises(StepError, match=r"maps ADT with A01 A02 .* A62, not A99"):
        map_segments(PID, trigger="A99")


def test_trigger_comes_from_evn_when_msh_has_none() -> None:
    assert map_segments("EVN|A04|20240501", PID, trigger="").kind == "patient.registered"


def test_delimiters_of_the_message_are_used() -> None:
    raw = "MSH$%?!*$A$B$$$20240501$$ADT%A08$1$P$2.5.1\rPID$1$$7%%%H*1.2.3*ISO%MR?8%%%%SS$$O!S!Hara%Pat"
    patient = map_adt(Message.parse(raw.encode())).patient
    assert patient.mrn == Identifier(value="7", system="urn:oid:1.2.3", type="MR")
    assert patient.family == "O%Hara"


def test_same_segments_in_other_encodings_are_kept_apart() -> None:
    raw = (MSH.format("A08") + "\r" + "PID|1||1||M\\XC3BC\\ller").encode()
    assert map_adt(Message.parse(raw, "utf-8")).patient.family == "Müller"
    assert map_adt(Message.parse(raw, "iso8859-1")).patient.family == "MÃ¼ller"


def test_time_of_the_message_stands_in_for_the_time_of_the_event() -> None:
    assert map_segments("EVN|A08|", PID).occurred_at == "2024-05-01T10:30:00"
    assert map_segments("EVN|A08|20240430", PID).occurred_at == "2024-04-30"


# --- messages that other people made ---------------------------------------------------------------------------------
