"""This module checks the PDUs of SMPP 3.4 against the standard's own bytes, and that nothing is lost on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.wire import smpp
from broker.wire.smpp import Address, Decoder, Pdu, ShortMessage, address_of, bind, message_id, next_sequence
from broker.wire.smpp_text import Part, SmscReceipt, read_receipt, read_text, short_messages

# SMPP 3.4, 2.7.1 and 3.2.3: the standard's own example of a bind_transmitter, octet by octet.
EXAMPLE = bytes.fromhex(
    "0000002F 00000002 00000000 00000001 53 4D 50 50 33 54 45 53 54 00 73 65 63 72 65 74 30 38 00 "
    "53 55 42 4D 49 54 31 00 00 01 01 00"
)
HOUSE = Address(1, 1, "12025550100")
PATIENT = Address(1, 1, "12025550123")
c_octets = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=16)
octets = st.integers(0, 255)
addresses = st.builds(Address, octets, octets, c_octets)
messages = st.builds(
    ShortMessage,
    source=addresses,
    destination=addresses,
    message=st.binary(max_size=254),
    service_type=c_octets.map(lambda value: value[:5]),
    esm_class=octets,
    protocol_id=octets,
    priority=octets,
    scheduled=c_octets,
    validity=c_octets,
    registered_delivery=octets,
    replace=octets,
    data_coding=octets,
    default_message=octets,
    options=st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=300), max_size=4),
)


def test_example_of_the_standard_is_read_and_written() -> None:
    (pdu,) = Decoder().feed(EXAMPLE)
    assert (pdu.command, pdu.status, pdu.sequence) == (2, 0, 1)
    assert pdu.encode() == EXAMPLE
    reading = smpp.Reading(pdu.body)
    assert [reading.text(16), reading.text(9), reading.text(13)] == ["SMPP3TEST", "secret08", "SUBMIT1"]
    assert reading.octets(3) == b"\x00\x01\x01"
    assert reading.text(41) == ""


def test_bind_says_who_we_are_and_what_we_speak() -> None:
    body = bind("SMPP3TEST", "secret08", "SUBMIT1")
    assert body == b"SMPP3TEST\0secret08\0SUBMIT1\0" + b"\x34\x00\x00" + b"\0"


@pytest.mark.parametrize("credentials", [("x" * 16, "p"), ("x", "123456789"), ("x\0y", "p"), ("ü", "p")])
def test_bind_is_refused_when_something_does_not_fit(credentials: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="does not fit") as refusal:
        bind(*credentials)
    assert not any(one in str(refusal.value) for one in credentials if len(one) > 2)


# Composed by hand from table 4-10.
SUBMIT = bytes.fromhex(
    "00"  # service_type
    "0500" + b"Clinic".hex() + "00"  # source: alphanumeric
    "0101" + b"12025550123".hex() + "00"  # destination: international, ISDN
    "40 00 00"  # esm_class with UDHI, protocol_id, priority_flag
    "00 00"  # schedule_delivery_time, validity_period
    "01 00 08 00"  # registered_delivery, replace_if_present_flag, data_coding UCS-2, sm_default_msg_id
    "08 050003070201 65e5"  # sm_length, short_message
    "0204 0002 0007"  # user_message_reference
)


def test_submit_has_the_octets_of_the_standard() -> None:
    message = ShortMessage(
        source=address_of("Clinic"),
        destination=address_of("+12025550123"),
        esm_class=smpp.UDHI,
        registered_delivery=1,
        data_coding=smpp.UCS_2,
        message=bytes.fromhex("05000307020165e5"),
        options={0x0204: b"\x00\x07"},
    )
    assert message.encode() == SUBMIT
    assert ShortMessage.decode(SUBMIT) == message
    assert "555" not in repr(message)
    assert "555" not in repr(Pdu(smpp.SUBMIT_SM, 0, 1, SUBMIT))


def test_addresses_have_the_type_of_what_they_are() -> None:
    assert address_of("+12025550123") == Address(1, 1, "12025550123")
    assert address_of("24680") == Address(3, 0, "24680")
    assert address_of("Clinic") == Address(5, 0, "Clinic")


@given(messages)
def test_messages_read_as_they_were_written(message: ShortMessage) -> None:
    assert ShortMessage.decode(message.encode()) == message


@given(messages, st.data())
def test_a_body_that_is_cut_short_is_refused_or_means_less(message: ShortMessage, data: st.DataObject) -> None:
    body = message.encode()
    short = body[: data.draw(st.integers(0, len(body) - 1))]
    try:
        found = ShortMessage.decode(short)
    except MessageError:
        return
    assert len(found.options) < len(message.options)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_body_or_refused(body: bytes) -> None:
    try:
        message = ShortMessage.decode(body)
    except MessageError:
        return
    read_receipt(message)
    read_text(message)


@given(st.lists(st.tuples(octets, octets, st.binary(max_size=40)), max_size=5), st.data())
def test_stream_is_cut_the_same_wherever_it_breaks(pdus: list[Any], data: st.DataObject) -> None:
    sent = [Pdu(command, status, number, body) for number, (command, status, body) in enumerate(pdus)]
    stream = b"".join(pdu.encode() for pdu in sent)
    decoder = Decoder()
    found: list[Pdu] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert found == sent


@pytest.mark.parametrize("length", [0, 15, smpp.LONGEST_PDU + 1, 0xFFFFFFFF])
def test_stream_is_refused_when_it_is_no_smpp(length: int) -> None:
    with pytest.raises(MessageError, match="no SMPP"):
        list(Decoder().feed(length.to_bytes(4) + bytes(12)))


def test_answers_carry_the_number_of_what_they_answer() -> None:
    answer = Pdu(smpp.DELIVER_SM, 0, 7).answer(0x64)
    assert answer == Pdu(0x80000005, 0x64, 7)
    assert answer.is_answer
    assert not Pdu(smpp.DELIVER_SM, 0, 7).is_answer


def test_sequence_numbers_begin_again_at_one() -> None:
    assert next_sequence(0) == 1
    assert next_sequence(0x7FFFFFFF) == 1


def test_message_id_may_be_missing() -> None:
    assert message_id(b"") == ""
    assert message_id(b"m1\0") == "m1"
    with pytest.raises(MessageError):
        message_id(b"m1")


def test_status_has_its_name() -> None:
    assert smpp.status_name(0x58) == "ESME_RTHROTTLED"
    assert smpp.status_name(0x401) == "status 0x00000401"


def test_long_message_is_refused_as_short_message() -> None:
    with pytest.raises(ValueError, match="message_payload"):
        ShortMessage(source=HOUSE, destination=PATIENT, message=bytes(255)).encode()


# Texts.


def sent(text: str, **options: Any) -> list[ShortMessage]:
    given = {"reference": 7, "receipts": True, "payload": False} | options
    return [ShortMessage.decode(one.encode()) for one in short_messages(HOUSE, PATIENT, text, **given)]


def test_short_text_goes_in_one_message() -> None:
    (one,) = sent("Grüße [1]")
    assert (one.data_coding, one.esm_class, one.registered_delivery) == (0, 0, 1)
    assert one.message == b"Gr\x7e\x1ee \x1b\x3c1\x1b\x3e"
    (silent,) = sent("Hi", receipts=False)
    assert silent.registered_delivery == 0


def test_long_text_goes_in_parts_that_know_each_other() -> None:
    parts = sent("a" * 400)
    assert [one.message[:6].hex() for one in parts] == ["050003070301", "050003070302", "050003070303"]
    assert [len(one.message) for one in parts] == [159, 159, 100]
    assert all(one.esm_class == smpp.UDHI for one in parts)
    assert [read_text(one)[1] for one in parts] == [Part(7, 3, 1), Part(7, 3, 2), Part(7, 3, 3)]


def test_long_text_goes_whole_when_the_smsc_is_to_cut_it() -> None:
    (one,) = sent("日" * 200, payload=True)
    assert (one.message, one.data_coding, one.esm_class) == (b"", smpp.UCS_2, 0)
    assert read_text(one) == ("日" * 200, None)
    (short,) = sent("日", payload=True)
    assert short.message == b"\x65\xe5"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400), st.booleans())
def test_text_arrives_as_it_was_sent(text: str, payload: bool) -> None:
    assert "".join(read_text(one)[0] for one in sent(text, payload=payload)) == text


def brought(message: bytes, **options: Any) -> ShortMessage:
    return ShortMessage(source=PATIENT, destination=HOUSE, message=message, **options)


@pytest.mark.parametrize(
    ("message", "coding", "text"),
    [
        (b"STOP", 0x00, "STOP"),
        (b"\x00\x02", 0x00, "@$"),
        (b"Gr\xfc\xdfe", 0x03, "Grüße"),
        (b"S\x00", 0x01, "S\x00"),
        (b"\x00S\x00T\x00O\x00P", 0x08, "STOP"),
        (b"\x00S\x00", 0x08, "S\ufffd"),
        (b"STOP", 0xF1, "STOP"),
        (b"", 0x00, ""),
    ],
)
def test_text_is_read_in_the_alphabet_that_it_names(message: bytes, coding: int, text: str) -> None:
    assert read_text(brought(message, data_coding=coding)) == (text, None)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("0500030702 01", Part(7, 2, 1)),
        ("06 0804 0107 0201", Part(0x107, 2, 1)),  # 16-bit reference
        ("08 2401 01 0003 070201", Part(7, 2, 1)),  # behind another element
        ("02 7000", None),
        ("03 00 03 07", None),  # cut short
        ("01 00", None),
        ("00", None),
    ],
)
def test_header_says_which_part_it_is(header: str, part: Part | None) -> None:
    message = brought(bytes.fromhex(header) + b"Hi", esm_class=smpp.UDHI)
    assert read_text(message) == ("Hi", part)


def test_header_longer_than_the_message_is_text() -> None:
    assert read_text(brought(b"\x28ello", esm_class=smpp.UDHI)) == ("(ello", None)


# SMPP 3.4, appendix B.
RECEIPT = (
    b"id:0123456789 sub:001 dlvrd:001 submit date:0309011011 done date:0309011012 stat:%s err:%s text:Hello id:x stat:y"
)


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        (b"DELIVRD", "delivered"),
        (b"EXPIRED", "expired"),
        (b"DELETED", "failed"),
        (b"UNDELIV", "undeliverable"),
        (b"ACCEPTD", "sent"),
        (b"ENROUTE", "sent"),
        (b"UNKNOWN", "unknown"),
        (b"REJECTD", "rejected"),
        (b"delivrd", "delivered"),
        (b"WHATEVER", "unknown"),
    ],
)
def test_receipt_is_read_from_its_text(stat: bytes, state: str) -> None:
    found = read_receipt(brought(RECEIPT % (stat, b"000"), esm_class=smpp.RECEIPT))
    assert found == SmscReceipt("0123456789", state)


def test_receipt_is_read_from_its_parameters_first() -> None:
    options = {smpp.RECEIPTED_MESSAGE_ID: b"m7\0", smpp.MESSAGE_STATE: b"\x05"}
    told = read_receipt(brought(RECEIPT % (b"DELIVRD", b"00B"), esm_class=smpp.RECEIPT, options=options))
    assert told == SmscReceipt("m7", "undeliverable", "00B")
    silent = read_receipt(brought(b"", esm_class=smpp.RECEIPT, options={smpp.MESSAGE_STATE: b"\x63"}))
    assert silent == SmscReceipt("", "unknown")


def test_text_is_no_receipt() -> None:
    assert read_receipt(brought(b"id:1 stat:DELIVRD")) is None
