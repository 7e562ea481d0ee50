"""This module checks what is answered, when, and how it is written."""

import itertools

import pytest

from broker.errors import Breach
from broker.wire.ack import (
    TABLE_0008,
    TABLE_0357,
    VERSIONS,
    acknowledge,
    application_code,
    bad_code,
    check_header,
    commit_code,
    is_acknowledgment,
    refusal_code,
)
from broker.wire.er7 import Message
from broker.wire.header import Header, read_header

AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def header(**changes: str) -> Header:
    fields = {
        "msh": "|^~\\&",
        "3": "EPIC",
        "4": "MERCY",
        "5": "HANDOFF",
        "6": "PRM",
        "9": "ADT^A01^ADT_A01",
        "10": "MSG00001",
        "11": "P",
        "12": "2.5.1",
    } | {key.lstrip("f"): value for key, value in changes.items()}
    definition = fields.pop("msh")
    values = [fields.get(str(number), "") for number in range(3, 19)]
    return read_header(("MSH" + definition[0] + definition[1:] + definition[0] + definition[0].join(values)).encode())


def lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r")
    return data[:-1].split(b"\r")


def test_parties_are_swapped_and_the_rest_echoed_when_accepted() -> None:
    msh, msa = lines(acknowledge(header(f18="8859/1"), "AA", "ID1", AT))
    assert msh == b"MSH|^~\\&|HANDOFF|PRM|EPIC|MERCY|20260101000000+0000||ACK^A01^ACK|ID1|P|2.5.1||||||8859/1"
    assert msa == b"MSA|AA|MSG00001"


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("2.1", b"ACK"),
        ("2.2", b"ACK^A01"),
        ("2.3", b"ACK^A01"),
        ("2.3.1", b"ACK^A01"),
        ("2.4", b"ACK^A01^ACK"),
        ("2.9", b"ACK^A01^ACK"),
    ],
)
def test_message_type_follows_the_version_when_answered(version: str, kind: bytes) -> None:
    assert lines(acknowledge(header(f12=version), "AA", "ID1", AT))[0].split(b"|")[8] == kind


def test_message_type_is_bare_when_the_sender_names_no_trigger() -> None:
    assert lines(acknowledge(header(f9="ADT"), "AA", "ID1", AT))[0].split(b"|")[8] == b"ACK"


def test_separators_are_the_senders_when_they_are_unusual() -> None:
    msh, msa, err = lines(
        acknowledge(
            header(msh="#!@%*", f9="ADT!A01"), "AR", "ID1", AT, text="a#b!c%d", condition=203, location="MSH-12"
        )
    )
    assert msh.startswith(b"MSH#!@%*#HANDOFF#PRM#EPIC#MERCY#")
    assert msa == b"MSA#AR#MSG00001#a%F%b%S%c%E%d"
    assert err == b"ERR##MSH!1!12#203!Unsupported version id!HL70357#E####a%F%b%S%c%E%d"


def test_text_is_blanked_when_the_sender_has_no_escape_character() -> None:
    assert lines(acknowledge(header(msh="|^"), "AE", "ID1", AT, text="a|b^c\r\nd&"))[1] == b"MSA|AE|MSG00001|a b c d&"


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("2.1", b"ERR|PID 1 3 103"),
        ("2.2", b"ERR|PID^1^3^103&Table value not found&HL70357"),
        ("2.4", b"ERR|PID^1^3^103&Table value not found&HL70357"),
        ("2.5", b"ERR||PID^1^3^1^4|103^Table value not found^HL70357|E||||bad"),
        ("2.7", b"ERR||PID^1^3^1^4|103^Table value not found^HL70357|E||||bad"),
        ("nonsense", b"ERR||PID^1^3^1^4|103^Table value not found^HL70357|E||||bad"),
    ],
)
def test_error_segment_follows_the_version_when_refused(version: str, error: bytes) -> None:
    built = lines(acknowledge(header(f12=version), "AE", "ID1", AT, text="bad", condition=103, location="PID-3.4"))
    assert built[2] == error
    assert (built[1] == b"MSA|AE|MSG00001") is (version == "2.7")  # MSA-3 was withdrawn in 2.7


@pytest.mark.parametrize(
    ("version", "errors"),
    [
        ("2.1", [b"ERR|PID 1 3 103"]),
        (
            "2.4",
            [
                b"ERR|PID^1^3^103&Table value not found&HL70357~PID^1^5^101&Required field missing&HL70357"
                b"~^^^199&Other HL7 error&HL70357"
            ],
        ),
        (
            "2.5.1",
            [
                b"ERR||PID^1^3|103^Table value not found^HL70357|E||||bad",
                b"ERR||PID^1^5|101^Required field missing^HL70357|E||||not valued",
                b"ERR|||199^Other HL7 error^HL70357|E||||and 3 more",
            ],
        ),
    ],
)
def test_every_error_is_told_as_the_version_does(version: str, errors: list[bytes]) -> None:
    further = (Breach("PID-5", 101, "not valued"), Breach("", 199, "and 3 more"))
    told = acknowledge(
        header(f12=version), "AE", "ID1", AT, text="bad", condition=103, location="PID-3", further=further
    )
    assert lines(told)[2:] == errors


@pytest.mark.parametrize(
    ("conditions", "code"), [([], "AE"), ([207], "AE"), ([100, 101, 103, 104], "AE"), ([101, 203], "AR"), ([200], "AR")]
)
def test_code_follows_from_what_is_wrong(conditions: list[int], code: str) -> None:
    assert bad_code(conditions) == code


@pytest.mark.parametrize(
    ("location", "place"),
    [("", b""), ("nowhere", b""), ("MSH", b"MSH^1"), ("PID-3(2).4.1", b"PID^1^3^2^4^1"), ("OBX(3)-5", b"OBX^3^5")],
)
def test_location_is_written_as_numbers_when_known(location: str, place: bytes) -> None:
    assert lines(acknowledge(header(), "AE", "ID1", AT, condition=207, location=location))[2].split(b"|")[2] == place


def test_blank_header_is_completed_when_answered() -> None:
    built = acknowledge(read_header(b"MSH|^~\\&"), "AR", "ID1", AT, condition=101, location="MSH-9")
    assert lines(built)[0] == b"MSH|^~\\&|||||20260101000000+0000||ACK|ID1|P|2.5.1"
    assert lines(built)[1] == b"MSA|AR|"


def test_control_id_is_verbatim_when_odd() -> None:
    built = acknowledge(read_header(b"MSH|^~\\&|||||||ADT|\\F\\x^\xe9 |P|2.3"), "AA", "ID1", AT)
    assert lines(built)[1] == b"MSA|AA|\\F\\x^\xe9 "


def test_frame_end_cannot_be_smuggled_in_when_echoed() -> None:
    assert b"\x1c" not in acknowledge(read_header(b"MSH|^~\\&|||||||ADT|x\x1c|P|2.3"), "AA", "ID1", AT)


def test_answer_is_wide_when_the_message_was() -> None:
    raw = "MSH|^~\\&|A|B|C|D|||ADT^A01|1|P|2.5||||||UNICODE UTF-16\r".encode("utf-16")
    answer = Message.parse(acknowledge(read_header(raw), "AA", "ID1", AT))
    assert (answer.get("MSA-1"), answer.get("MSH-3")) == ("AA", "C")


def test_place_and_code_keep_their_components_when_the_version_has_but_four() -> None:
    built = acknowledge(header(f12="2.3"), "AE", "ID1", AT, condition=207, location="MSH")
    assert lines(built)[2] == b"ERR|MSH^1^^207&Application error&HL70357"


def test_help_desk_and_user_are_told_when_refused() -> None:
    built = acknowledge(header(), "AE", "ID1", AT, text="x" * 999, condition=207, diagnostic="channel adt")
    fields = lines(built)[2].split(b"|")
    assert (fields[7], fields[8]) == (b"channel adt", b"x" * 250)


@pytest.mark.parametrize("verdict", ["AA", "AE", "AR"])
def test_one_answer_is_the_verdict_when_original_mode(verdict: str) -> None:
    assert (commit_code(header(), verdict), application_code(header(), verdict)) == (None, verdict)
    assert refusal_code(header(), verdict) == verdict


@pytest.mark.parametrize(
    ("accept", "application", "committed", "processed", "refused"),
    [
        ("AL", "", "CA", None, "CE"),
        ("AL", "NE", "CA", None, "CE"),
        ("AL", "AL", "CA", "AA", "CE"),
        ("NE", "NE", None, None, None),
        ("NE", "", None, None, None),
        ("NE", "AL", None, "AA", "AE"),
        ("", "AL", None, "AA", "AE"),
        ("ER", "NE", None, None, "CE"),
        ("SU", "NE", "CA", None, None),
        ("SU", "AL", "CA", "AA", "AE"),
        ("ER", "AL", None, "AA", "CE"),
        ("AL", "ER", "CA", None, "CE"),
        ("AL", "SU", "CA", "AA", "CE"),
        ("NE", "ER", None, None, "AE"),
        ("NE", "SU", None, "AA", None),
        ('""', "NE", None, None, None),
        ("??", "NE", "CA", None, "CE"),
        ("al", "ne", "CA", None, "CE"),
    ],
)
def test_codes_follow_the_wishes_when_enhanced_mode(
    accept: str, application: str, committed: str | None, processed: str | None, refused: str | None
) -> None:
    asked = header(f15=accept, f16=application)
    assert (commit_code(asked, "AA"), application_code(asked, "AA")) == (committed, processed)
    assert refusal_code(asked, "AE") == refused
    assert refusal_code(asked, "AR") == (refused and refused[0] + "R")


def test_every_code_is_in_the_table_when_answered() -> None:
    wishes = ["", "AL", "NE", "ER", "SU"]
    for accept, application, verdict in itertools.product(wishes, wishes, ["AA", "AE", "AR"]):
        asked = header(f15=accept, f16=application)
        for code in (commit_code, application_code, refusal_code):
            assert code(asked, verdict) in {None, *TABLE_0008}


def test_application_acknowledgment_asks_for_no_answer_when_enhanced_mode() -> None:
    asked = header(f15="AL", f16="AL", f18="8859/1")
    silent = lines(acknowledge(asked, "AA", "ID1", AT, silent=True))[0]
    assert silent.split(b"|")[12:] == [b"", b"", b"NE", b"NE", b"", b"8859/1"]
    assert lines(acknowledge(asked, "CA", "ID1", AT))[0].split(b"|")[12:] == [b""] * 5 + [b"8859/1"]


def test_framing_is_not_in_a_wide_answer_when_letters_hold_its_bytes() -> None:
    raw = "MSH|^~\\&|A|B|\u0b85|D|||ADT^A01|1|P|2.5||||||UNICODE UTF-16\r".encode("utf-16")
    answer = acknowledge(read_header(raw), "AA", "ID1", AT)
    assert b"\x0b" not in answer
    assert Message.parse(answer).get("MSH-3") == "?"


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b"MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AA|1", True),
        (b"MSH|^~\\&|||||||ACK^A01^ACK|1|P|2.5", True),
        (b"MSH|^~\\&|||||||RSP^K11|1|P|2.5\nMSA|AA|1", True),
        (b"MSH#^~\\&#######RSP^K11#1#P#2.5\r\nMSA#AA#1", True),
        (b"MSH|^~\\&|||||||ADT^A01|1|P|2.5\rNTE|1||xMSA|", False),
        (b"MSH|^~\\&|||||||RSP^K11|1|P|2.5\rNTE|1||xMSA|\rMSA|AA|1", True),
        (b"MSH|^~\\&|||||||RSP^K11|1|P|2.5\r\n\r\nSFT|x\r\n\nMSA|AA|1", True),
        (b"MSH|^~\\&|||||||RSP^K11|1|P|2.5\nSFT|x\nMSA|AA|1\rQAK|1", True),
        (b"MSH|^~\\&|||||||ADT^A01|1|P|2.5\rPID|1", False),
        (b"MSH|^~\\&|||||||ADT^A01|1|P|2.5\rPID|1\rMSA", False),
        (b"MSH|^~\\&|||||||ADT^A01|1|P|2.5\r" + b"NTE|1\r" * 9999, False),
    ],
)
def test_acknowledgment_is_recognised_when_it_answers(raw: bytes, answer: bool) -> None:
    assert is_acknowledgment(read_header(raw), raw) is answer


@pytest.mark.parametrize("version", [*VERSIONS, "2.5^DEU", "2.5^FRA^2.5", "2.5^^", " 2.3 "])
def test_header_is_accepted_when_the_version_is_known(version: str) -> None:
    assert check_header(header(f12=version)) is None


@pytest.mark.parametrize(
    ("field", "value", "condition"),
    [
        ("9", "", 101),
        ("9", "^A01", 101),
        ("10", "", 101),
        ("12", "", 101),
        ("12", " ", 101),
        ("12", "1", 203),
        ("12", "2.3.z", 203),
        ("12", "555", 203),
    ],
)
def test_header_is_refused_when_it_cannot_be_answered_for(field: str, value: str, condition: int) -> None:
    refusal = check_header(header(**{field: value}))
    assert refusal is not None
    assert (refusal.code, refusal.condition, refusal.location) == ("AR", condition, f"MSH-{field}")
    assert refusal.condition in TABLE_0357


def test_header_is_accepted_when_the_processing_id_is_odd() -> None:
    assert check_header(header(f11="Z")) is None
