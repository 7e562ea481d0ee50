"""The MLLP destination's pure half: what is sent, what is refused before it is sent, and what answers mean."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.delivery import Rejected
from broker.errors import ConfigError, StepError
from broker.formats.tree import JsonSpec
from broker.message import Document
from broker.wire.er7 import Message
from dispatch.hl7_payload import encoded, in_lines
from dispatch.mllp import MllpOutSpec
from dispatch.mllp_answer import Answer, Table, control_id_of, outcome, read_answer
from tests.project import CHANNEL, Project
from transforms.kit import Kit
from transforms.mistakes import ExpressionError

HEAD = b"MSH|^~\\&|EPIC^1.2.3^ISO|MERCY|X|Y|20261128||ADT^A08^ADT_A01|C1|P|2.5.1|||AL|AL||8859/1"
RAW = HEAD + b"\rPID|1||0012||M\xfcller\r"


def document(raw: bytes = RAW) -> Document:
    return Document(message=Message.parse(raw), received_at=0.0)


def rendered(raw: bytes = RAW, **options: Any) -> bytes:
    spec = MllpOutSpec.model_validate({"endpoint": "127.0.0.1:2575", **options})
    return spec.build_renderer(Kit(None))(document(raw))  # type: ignore[arg-type] # nothing is read from a folder


def test_original_is_sent_as_it_came() -> None:
    assert rendered() == RAW


@pytest.mark.parametrize(
    "raw", [RAW[:-1], b"\x0b" + RAW + b"\x1c\r", b"\r\n" + RAW + b"\r\n\x1a", RAW.replace(b"\r", b"\r\n")]
)
def test_original_loses_only_what_its_frame_or_file_left(raw: bytes) -> None:
    assert rendered(raw) == RAW
    assert in_lines(Message.parse(RAW.replace(b"\r", b"\n"))) == RAW


def test_wide_original_keeps_its_bytes() -> None:
    raw = RAW.decode("latin-1").replace("8859/1", "UNICODE UTF-16").encode("utf-16-le")
    assert in_lines(Message.parse(b"\xff\xfe" + raw)) == b"\xff\xfe" + raw


def test_parties_and_wishes_are_set_without_touching_the_rest() -> None:
    sent = rendered(sending="HANDOFF|MERCY", receiving="EHR^9.9^ISO|NORTH", accept_ack="AL", application_ack="NE")
    read = Message.parse(sent)
    assert [read.get(f"MSH-{place}") for place in ("3", "3.2", "4", "5", "5.2", "6", "7", "10", "15", "16")] == [
        "HANDOFF",
        None,
        "MERCY",
        "EHR",
        "9.9",
        "NORTH",
        "20261128",
        "C1",
        "AL",
        "NE",
    ]
    assert sent.partition(b"\r")[2] == RAW.partition(b"\r")[2]


def test_template_is_written_in_its_own_character_set_with_values_escaped() -> None:
    head = "MSH|^~\\&|H||E||20261128||ADT^A08|C9|P|2.5.1||||||8859/1"
    assert rendered(message=f"{head}\nPID|1||{{{{ PID-3 }}}}||{{{{ PID-5 }}}}\n") == (
        head.encode() + b"\rPID|1||0012||M\xfcller\r"
    )
    assert encoded("MSH|^~\\&|H||E||1||ADT^A08|C9|P|2.5.1\rNTE|1||š\n", "mllp").endswith("š\r".encode())


@pytest.mark.parametrize(
    ("raw", "options", "words"),
    [
        (RAW, {"message": "MSH|^~\\&|H||E||1||ADT^A08||P|2.5.1"}, "MSH-10: the message control id is missing"),
        (RAW, {"message": "MSH|^~\\&|H||E||1|||C9|P|2.5.1"}, "MSH-9"),
        (RAW, {"message": "PID|1"}, "MSH"),
        (RAW, {"message": "MSH|^~\\&|H||E||1||ADT^A08|C9|P|2.5.1||||||8859/1\nNTE|1||š"}, "cannot be written"),
        (RAW, {"message": "MSH|^~\\&|H||E||1||ADT^A08|C9|P|2.5.1||||||NO SUCH"}, "MSH-18"),
        (RAW.replace(b"ADT^A08^ADT_A01", b"ACK"), {}, "is an acknowledgment"),
        (RAW.replace(b"0012", b"00\x0b12"), {}, "bytes that end an MLLP frame"),
        (RAW.replace(b"0012", b"00\x1c\r12"), {}, "bytes that end an MLLP frame"),
    ],
)
def test_message_that_no_partner_could_take_is_refused_before_it_is_sent(
    raw: bytes, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(StepError, match=words) as caught:
        rendered(raw, **options)
    assert "0012" not in str(caught.value)


def test_original_needs_hl7() -> None:
    kit: Any = Kit(None, JsonSpec().build(None))  # type: ignore[arg-type] # as above
    spec = MllpOutSpec.model_validate({"endpoint": "127.0.0.1:2575"})
    with pytest.raises(ConfigError, match="the messages of this channel are json"):
        spec.build_renderer(kit)
    with pytest.raises(ExpressionError):
        MllpOutSpec.model_validate({"endpoint": "h:1", "message": "{{ nothing }}"}).build_renderer(kit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either `endpoint`"),
        ({"endpoint": "h:1", "listen": "h:2"}, "either `endpoint`"),
        ({"listen": "h:2", "tls": {}}, "needs a certificate"),
        ({"endpoint": "h:1", "wait_for": "application", "application_ack": "NE"}, "forbids"),
        ({"endpoint": "h:1", "conditions": {"locked": "retry"}}, "numbers such as 206"),
        ({"endpoint": "h:1", "actions": {"XX": "retry"}}, "AA"),
        ({"endpoint": "h:1", "sending": ""}, "at least 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MllpOutSpec.model_validate(options)


def test_concurrency_is_the_number_of_connections() -> None:
    assert MllpOutSpec.model_validate({"endpoint": "h:1", "connections": 8}).concurrency == 8


def ack(*segments: str) -> bytes:
    return "\r".join(["MSH|^~\\&|A||B||1||ACK|1|P|2.5.1", *segments, ""]).encode()


@pytest.mark.parametrize(
    ("segment", "location"),
    [
        ("ERR||PID^1^3|101", "PID-3"),
        ("ERR||OBX^3^5^2^1^2|101", "OBX[3]-5[2].1.2"),
        ("ERR||PID|101", "PID"),
        ("ERR||PID^x^3|101", ""),
        ("ERR||Okafor^1|101", ""),
        ("ERR|PID^1^5^103&bad", "PID-5"),
        ("ERR|PID^2", "PID[2]"),
        ("ERR|", ""),
    ],
)
def test_location_of_an_error_is_read_where_it_is_one(segment: str, location: str) -> None:
    found = read_answer(ack("MSA|AE|C1", segment))
    assert found is not None
    assert found.location == location


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"hello", ack(), ack("MSA||C1"), RAW])
def test_what_is_no_acknowledgment_is_none(payload: bytes) -> None:
    assert read_answer(payload) is None


def test_reason_holds_codes_alone() -> None:
    found = read_answer(ack("MSA|ar |C1|Okafor 0012", "ERR||PID^1^3|999^Okafor|E|||Okafor"))
    assert found == Answer("AR", "C1", "999", "PID-3")
    told = outcome(found, Table({}, {}), "partner ehr:1", b"evidence")
    reason = "partner ehr:1: answered AR (Application Reject), condition 999 at PID-3"
    assert told == Rejected(reason, location="PID-3", response=b"evidence")


def test_check_finds_an_endpoint_that_is_taken(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.channel("channel: afiles\nlisten:\n  files: {folder: in}\ndeliver:\n  store: {prm: {}}\n", "afiles")
    begin = CHANNEL.partition("deliver:")[0]
    project.channel(
        f"{begin}deliver:\n  one:\n    mllp: {{listen: 127.0.0.1:2575}}\n"
        "  two:\n    mllp: {listen: 127.0.0.1:2576}\n  three:\n    mllp: {listen: 127.0.0.1:2576}\n"
    )
    told = [line for line in project.told() if "E304" in line]
    assert "deliver.one.mllp.listen: channel feed listens on 127.0.0.1:2575 already (choose another port)" in told[0]
    assert "deliver.three.mllp.listen: channel feed listens on 127.0.0.1:2576 already" in told[1]
    assert len(told) == 2


@pytest.mark.parametrize(("sent", "given"), [(b"C1", "C1"), (b" C1 ", "C1"), (b"C\\T\\1", "C&1"), (b"C-1", "C-1")])
def test_control_id_is_compared_as_an_answer_gives_it_back(sent: bytes, given: str) -> None:
    assert control_id_of(RAW.replace(b"|C1|", b"|" + sent + b"|")) == given
    found = read_answer(ack(f"MSA|AA|{sent.decode()}"))
    assert found == Answer("AA", given)


def test_partners_dial_in_from_elsewhere_only_with_tls_or_a_reason() -> None:
    with pytest.raises(ValueError, match="without TLS"):
        MllpOutSpec.model_validate({"listen": "192.0.2.1:2575"})
    assert MllpOutSpec.model_validate({"listen": "192.0.2.1:2575", "unprotected": "a VPN ends here"}).unprotected
    assert MllpOutSpec.model_validate({"listen": "localhost:2575"}).listen
