"""What a file is to the engine: verdict, acknowledgment, errors with their places, values, the event."""

import pytest

from console.inspection import Asked, Seen, inspect

MSH = b"MSH|^~\\&|A|B|C|D|20240501||ADT^A08^ADT_A01|%s|P|2.5.1\r"
MESSAGE = MSH % b"1" + b"EVN|A08|20240501\rPID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F\rPV1|1|O\r"
PATIENT = b'{"resourceType": "Patient", "id": "p1", "active": true, "name": [{"family": "Okafor"}]}'


def seen(data: bytes, *at: str, fhir: bool = False, level: str = "lenient") -> Seen:
    return inspect(data, Asked(at=at, fhir=fhir, level=level))


def places(found: Seen, severity: str = "error") -> list[tuple[str, int]]:
    return [(error["location"], error["code"]) for error in found.errors if error["severity"] == severity]


def test_message_is_accepted_with_its_values_event_and_resources() -> None:
    found = seen(MESSAGE, "PID-5.1", "PID-3[5=MR].1", "PID-9", fhir=True)
    assert (found.kind, found.verdict, found.acknowledgment) == ("hl7", "accepted", "AA")
    assert found.values == {"PID-5.1": "Okafor", "PID-3[5=MR].1": "00123", "PID-9": None}
    assert found.canonical is not None
    assert found.canonical["patient"]["family"] == "Okafor"
    assert "Patient" in {resource["resourceType"] for resource in found.fhir or ()}


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [
        (MESSAGE.replace(b"|1|P|", b"||P|"), "AR", ("MSH-10", 101)),
        (MESSAGE.replace(b"|2.5.1", b"|nine"), "AR", ("MSH-12", 203)),
        (MESSAGE.replace(b"|2.5.1", b"|2.5.1||||||KLINGON"), "AE", ("MSH-18", 103)),
        (MESSAGE.replace(b"|2.5.1", b"|2.5.1||||||ASCII").replace(b"Okafor", b"Ok\xe4for"), "AE", ("MSH-18", 102)),
        (MSH % b"1" + b"EVN|A08|20240501\rPV1|1|O\r", "AE", ("PID", 100)),
        (b"hello", "AR", ("MSH", 100)),
        (b"", "AR", ("line 1, column 1", 100)),
        (b"ISA*00*", "AR", ("line 1, column 1", 207)),
        (b"<a/>", "AR", ("/", 207)),
        (b"<a>\n <b></a>", "AR", ("line 2, column 7", 207)),
        (b'{"a":\n  1,}', "AR", ("line 2, column 5", 207)),
        ('{"resourceType": "Patient"}'.encode("utf-16"), "AR", ("line 1, column 1", 207)),
        ('{"resourceType": "Patient"}'.encode("utf-16-le"), "AR", ("line 1, column 1", 207)),
        ("\n[]".encode("utf-32"), "AR", ("line 1, column 1", 207)),
        (b'{"resourceType": "Patient", "gender": 5}', "AE", ("Patient.gender", 102)),
        (b'{"a": 1, "a": 2}', "AR", ("line 1, column 10", 207)),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_place(data: bytes, code: str, place: tuple[str, int]) -> None:
    found = seen(data)
    assert (found.verdict, found.acknowledgment) == ("refused", code)
    assert places(found)[0] == place
    assert found.errors[0]["text"]


def test_broken_line_is_told_by_its_number_in_the_file() -> None:
    found = seen(PATIENT + b"\n\n" + PATIENT + b'\n{"a" 1}\n')
    (error,) = [error for error in found.errors if error["severity"] == "error"]
    assert (error["message"], error["location"]) == (3, "line 4, column 6")
    assert "line 4, column 6: " in error["text"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_document_in_another_encoding_is_known_for_what_it_is(encoding: str) -> None:
    found = seen(f'<?xml version="1.0" encoding="{encoding[:6].rstrip("-")}"?><ClinicalDocument/>'.encode(encoding))
    assert (found.kind, places(found)) == ("cda", [("/", 207)])


def test_what_can_be_read_of_a_refused_message_is_shown() -> None:
    found = seen(MESSAGE.replace(b"|2.5.1", b"|2.5.1||||||KLINGON"), "PID-5.1")
    assert (found.verdict, found.values) == ("refused", {"PID-5.1": "Okafor"})
    assert found.canonical is not None


def test_date_that_is_none_is_warned_of_and_left_out() -> None:
    found = seen(MESSAGE.replace(b"19620910", b"someday"))
    assert found.verdict == "accepted"
    assert ("PID-7", 102) in places(found, "warning")
    assert found.canonical is not None
    assert "birth_date" not in found.canonical["patient"]


def test_message_without_a_mapping_is_accepted_and_says_so() -> None:
    found = seen(MESSAGE.replace(b"ADT^A08^ADT_A01", b"ZZZ^Z01"))
    assert (found.verdict, found.canonical) == ("accepted", None)
    assert ("MSH-9", 0) in places(found, "warning")


def test_batch_says_what_each_message_is_and_that_its_count_is_wrong() -> None:
    batch = b"BHS|^~\\&|A|B\r" + MESSAGE + MESSAGE.replace(b"|1|P|", b"||P|") + b"BTS|3\r"
    found = seen(batch, "PID-5.1")
    assert [one.acknowledgment for one in found.messages] == ["AA", "AR"]
    assert (found.verdict, found.acknowledgment, found.values) == ("refused", "AR", {"PID-5.1": "Okafor"})
    assert any(error["location"].startswith("BTS") for error in found.errors)
    assert {error.get("message") for error in found.errors} >= {None, 2}


def test_resource_is_read_by_paths() -> None:
    found = seen(PATIENT, "Patient.name.family", "Patient.active", "PID-5.1", "Patient.name")
    assert found.verdict == "accepted"
    assert found.values == {
        "Patient.name.family": "Okafor",
        "Patient.active": "true",
        "PID-5.1": None,
        "Patient.name": None,
    }
    assert found.canonical is not None


def test_lines_of_json_are_a_resource_each() -> None:
    found = seen(PATIENT + b"\n" + PATIENT.replace(b"true", b"5") + b"\n")
    assert [one.verdict for one in found.messages] == ["accepted", "refused"]


def test_clinical_document_is_read() -> None:
    found = seen(
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3"/><recordTarget><patientRole>'
        b'<id root="1.2" extension="7"/><patient><name><family>Okafor</family></name></patient>'
        b"</patientRole></recordTarget></ClinicalDocument>"
    )
    assert (found.kind, found.verdict) == ("cda", "accepted")
    assert found.canonical is not None
    assert found.canonical["kind"] == "summary.received"


def test_second_opinion_is_hl7apys() -> None:
    asked = Asked(second=True)
    assert inspect(MESSAGE, asked).second_opinion == ""
    complaint = inspect(MESSAGE.replace(b"EVN|A08|20240501\r", b""), asked).second_opinion
    assert complaint is not None
    assert "EVN" in complaint
    assert inspect(MESSAGE, Asked()).second_opinion is None


SECOND = b"PID|2||00777^^^MERCY^MR||Obi||someday|M\rPV1|1|I\r"


def test_every_patient_of_a_message_is_told() -> None:
    found = seen(MESSAGE.replace(b"ADT^A08^ADT_A01", b"ADT^A17^ADT_A17") + SECOND, fhir=True)
    assert [event["patient"]["family"] for event in found.events] == ["Okafor", "Obi"]
    assert found.canonical == found.events[0]
    assert found.as_json()["events"] == found.events
    names = [one["name"][0]["family"] for one in found.fhir or () if one["resourceType"] == "Patient"]
    assert names == ["Okafor", "Obi"]
    assert ("PID(2)-7", 102) in places(found, "warning")


def test_patient_who_cannot_be_told_does_not_hide_the_others() -> None:
    merges = (
        MSH.replace(b"A08^ADT_A01", b"A40^ADT_A39") % b"1" + b"EVN|A40|2024\rPID|1||1^^^M^MR\rMRG|2\rPID|2||3^^^M^MR\r"
    )
    found = seen(merges)
    assert [event["patient"]["mrn"]["value"] for event in found.events] == ["1"]
    assert "MRG-1" in dict(places(found, "warning"))
    many = seen(merges + b"PID|1||9\rMRG|9\r" * 63)
    assert (many.canonical, many.events) == (None, [])
    assert "PID" in dict(places(many, "warning"))


def test_lost_backslash_is_told_and_its_ampersand_divides() -> None:
    lost = MESSAGE.replace(b"|^~\\&|", b"|^~&|").replace(b"MERCY^MR", b"MPI&2.16.840.1.113883.19.3.2.1&ISO^MR")
    found = seen(lost.replace(b"Ngozi", b"N\\T\\gozi"), "MSH-2", "PID-3.4.2", "PID-5.2")
    assert found.canonical is not None
    assert found.canonical["patient"]["mrn"]["system"] == "urn:oid:2.16.840.1.113883.19.3.2.1"
    assert found.values == {"MSH-2": "^~&", "PID-3.4.2": "2.16.840.1.113883.19.3.2.1", "PID-5.2": "N\\T\\gozi"}
    assert [place for place in places(found, "warning") if place[0].startswith("MSH-2")] == [("MSH-2", 102)]
    assert found.acknowledgment == "AA"


def test_nul_is_refused_and_the_rest_is_shown() -> None:
    found = seen(MESSAGE.replace(b"Okafor", b"Oka\0for"), "PID-3")
    assert (found.acknowledgment, places(found)[0], found.values) == ("AE", ("PID-5", 102), {"PID-3": "00123"})


SLOTS = [
    b'{"resourceType": "Appointment", "id": "a%d", "status": "booked", "start": "2026-01-01T1%d:00:00Z", '
    b'"end": "2026-01-01T1%d:10:00Z", "participant": [{"actor": {"reference": "Patient/p1"}, "status": "accepted"}]}'
    % (number, number, number)
    for number in (1, 2)
]


@pytest.mark.parametrize(
    ("data", "verdict", "at", "code"),
    [
        (MESSAGE, "accepted", None, "AA"),
        (MESSAGE.replace(b"|1|P|", b"||P|"), "refused", "intake", "AR"),
        (MESSAGE.replace(b"Okafor", b"O\0"), "refused", "intake", "AE"),
        (b"nonsense", "refused", "intake", "AR"),
        (b"BHS|^~\\&|A\r" + MESSAGE + b"BTS|7\r", "refused", "intake", "AE"),
        (MSH % b"1" + b"EVN|A08|20240501\rPV1|1|O\r", "refused", "steps", "AE"),
        (MESSAGE + MSH % b"2" + b"EVN|A08|20240501\rPV1|1|O\r", "refused", "steps", "AE"),
        (MESSAGE.replace(b"ADT^A08^ADT_A01", b"ZZZ^Z01"), "accepted", "steps", "AA"),
        (MESSAGE.replace(b"MERCY^MR", b"USA^SS"), "accepted", "steps", "AA"),
        (MESSAGE.replace(b"00123^^^MERCY^MR", b""), "accepted", "steps", "AA"),
        (b'{"resourceType": "Patient", "gender": 5}', "refused", "intake", "AE"),
        (
            b'{"resourceType": "Bundle", "type": "collection", "entry": [{"resource": %s}, {"resource": %s}]}'
            % tuple(SLOTS),
            "accepted",
            "steps",
            "AA",
        ),
    ],
)
def test_who_stops_a_message_is_told(data: bytes, verdict: str, at: str | None, code: str) -> None:
    found = seen(data)
    assert (found.verdict, found.at, found.acknowledgment) == (verdict, at, code)
    assert found.as_json()["at"] == at


def test_patient_whom_nobody_knows_is_warned_of_and_shown() -> None:
    found = seen(MESSAGE.replace(b"MERCY^MR", b"USA^SS"))
    assert ("PID-3", 101) in places(found, "warning")
    assert found.canonical is not None
    assert any("no destination can say whose it is" in error["text"] for error in found.errors)


def test_name_in_small_letters_is_told_with_its_line() -> None:
    found = seen(MESSAGE.replace(b"\rPID|", b"\r\npid|"))
    assert (found.verdict, found.at, places(found)[0]) == ("refused", "steps", ("PID", 100))
    texts = [error["text"] for error in found.errors if "in small letters" in error["text"]]
    assert [text.partition(" in small")[0] for text in texts] == [
        "Line 3 begins with PID",
        "PID is missing, so nobody can say whom this is about; line 3 begins with its name",
    ]


def test_other_name_in_small_letters_is_warned_of() -> None:
    found = seen(MESSAGE + b"obx|1|ST|X||lost\r")
    assert (found.verdict, found.at) == ("accepted", None)
    assert ("OBX", 100) in places(found, "warning")


def test_text_in_small_letters_is_text() -> None:
    found = seen(MESSAGE + b"NTE|1||first\rand pid|second\rpidgin|third\rxyz|fourth\r")
    assert (found.verdict, [error for error in found.errors if "small letters" in error["text"]]) == ("accepted", [])
