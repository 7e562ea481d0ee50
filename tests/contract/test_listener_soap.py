"""SOAP listeners keep the contract: an answer means committed; what is refused is a fault in the sender's version."""

import base64
import json
import re
from typing import Any, Final

import pytest

from broker.errors import NotAccepted
from broker.message import Conclusion, Ended
from broker.notices import MessageRefused
from listeners.soap import SoapSpec
from tests.http_peer import serving
from tests.soap_peer import CDC, V11, V12, VXU, envelope, fault, inner, kind, submit, token

MERCY: Final = "urn:mercy:referrals"
SERVICE: Final[dict[str, Any]] = {
    "namespace": MERCY,
    "operations": {
        "submitReferral": {
            "request": {"id": "required", "patient": "required", "note": "optional"},
            "message": ".",
            "content": "json",
            "lists": ["phone"],
            "key": "id",
            "response": {"fields": {"message": "{{ message }}", "again": "{{ duplicate }}", "to": "{{ request.id }}"}},
        },
        "ping": {
            "request": {"text": "required"},
            "response": {"xml": "<pong to='{{ request.text }}'>{{ channel }}</pong>"},
        },
    },
}
REFERRAL: Final = (
    f'<m:submitReferral xmlns:m="{MERCY}"><m:id>r-1</m:id><m:patient mrn="0017"><m:name>O&#x27;Neil &amp; Co</m:name>'
    "<m:phone>1</m:phone></m:patient></m:submitReferral>"
)


@pytest.mark.parametrize("version", [V11, V12])
async def test_hl7_in_soap_is_committed_and_its_acknowledgment_is_in_the_answer(version: str) -> None:
    async with serving(SoapSpec, "hl7", preset="cdc_2011") as world:
        world.kept.delay = 0.1
        status, answer, headers = await world.ask("POST", "/", data=envelope(submit(), version), headers=kind(version))
        assert (status, headers["content-type"].partition(";")[0]) == (
            200,
            kind(version)["Content-Type"].partition(";")[0],
        )
        told = inner(answer, version)
        assert told.tag == f"{{{CDC}}}submitSingleMessageResponse"
        acknowledgment = told.findtext(f"{{{CDC}}}return") or ""
        assert acknowledgment.startswith("MSH|^~\\&|IIS|STATE|CLINIC|MERCY|")
        assert acknowledgment.endswith("\rMSA|AA|M1\r")  # with CR, although XML would make LF of it
        assert world.kept.bodies == [
            b"MSH|^~\\&|CLINIC|MERCY|IIS|STATE|20261120||VXU^V04^VXU_V04|M1|P|2.5.1\r" + "PID|1||17||Okáfor\r".encode()
        ]


async def test_letters_are_as_msh_18_says() -> None:
    latin = VXU.replace("|2.5.1\n", "|2.5.1||||||8859/1\n")
    async with serving(SoapSpec, "hl7", preset="cdc_2011") as world:
        assert (await world.ask("POST", "/", data=envelope(submit(latin)), headers=kind()))[0] == 200
        assert "Okáfor".encode("latin-1") in world.kept.bodies[0]
        lacking = latin.replace("Ok", "Ωk")
        status, answer, _ = await world.ask("POST", "/", data=envelope(submit(lacking)), headers=kind())
        assert (status, fault(answer)) == (
            500,
            ("Client", "MSH-18 names a character set that has not all letters of the message"),
        )
        given = {"Content-Type": "text/xml; charset=iso-8859-1"}
        body = envelope(submit(VXU.replace("M1", "M2"))).decode().encode("latin-1")
        assert (await world.ask("POST", "/", data=body, headers=given))[0] == 200
        assert "Okáfor".encode() in world.kept.bodies[1]


async def test_a_message_that_is_refused_is_told_by_its_acknowledgment_and_our_fault_by_a_fault() -> None:
    async with serving(SoapSpec, "hl7", preset="cdc_2011") as world:
        world.kept.refusal = NotAccepted("no", code="AR", condition=203, location="MSH-12")
        status, answer, _ = await world.ask("POST", "/", data=envelope(submit(), V12), headers=kind(V12))
        assert (status, "MSA|AR|M1" in (inner(answer, V12)[0].text or "")) == (200, True)
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        for version, code in ((V11, "Server"), (V12, "Receiver")):
            status, answer, headers = await world.ask(
                "POST", "/", data=envelope(submit(), version), headers=kind(version)
            )
            assert (status, headers["retry-after"], fault(answer, version)[0]) == (503, "5", code)
        world.kept.refusal = None
        status, answer, _ = await world.ask("POST", "/", data=envelope(submit("hello"), V12), headers=kind(V12))
        assert (status, fault(answer, V12)[0], world.kept.quarantined[-1]) == (400, "Sender", b"hello\r")
        assert not world.kept.messages
        assert len([notice for notice in world.kept.notices if isinstance(notice, MessageRefused)]) == 4  # each once


async def test_hl7_in_soap_may_wait_for_its_steps() -> None:
    async with serving(SoapSpec, "hl7", preset="cdc_2011", answer={"from": "steps", "timeout": "200ms"}) as world:
        world.kept.ended = Ended("failed", "steps.1.filter", "PID-3", "there is none")
        _, answer, _ = await world.ask("POST", "/", data=envelope(submit()), headers=kind())
        assert "MSA|AE|M1" in (inner(answer)[0].text or "")
        world.kept.delay = 0.4
        status, answer, _ = await world.ask("POST", "/", data=envelope(submit()), headers=kind())
        assert (status, fault(answer)[0]) == (500, "Server")


async def test_xml_becomes_json_and_a_key_makes_it_one_message() -> None:
    async with serving(SoapSpec, service=SERVICE) as world:
        for again in ("false", "true"):
            status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL, V12), headers=kind(V12))
            told = inner(answer, V12)
            assert (status, told.tag) == (200, f"{{{MERCY}}}submitReferralResponse")
            assert [part.text for part in told] == ["0000000000001", again, "r-1"]
        assert [json.loads(body) for body in world.kept.bodies] == [
            {"id": "r-1", "patient": {"@mrn": "0017", "name": "O'Neil & Co", "phone": ["1"]}}
        ]
        _, answer, _ = await world.ask(
            "POST", "/", data=envelope(f'<ping xmlns="{MERCY}"><text>a"&lt;b</text></ping>'), headers=kind()
        )
        told = inner(answer)
        assert (told.tag, told.get("to"), told.text) == (f"{{{MERCY}}}pong", 'a"<b', "web")
        assert len(world.kept.messages) == 1
        status, answer, _ = await world.ask(
            "POST", "/", data=envelope(REFERRAL.replace("r-1", "r" * 256)), headers=kind()
        )
        assert (status, fault(answer)[0]) == (500, "Client")


async def test_what_is_no_envelope_is_a_fault_and_nothing_is_kept() -> None:
    bodies: dict[bytes, str] = {
        b"<a": "Client",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + envelope("<a>&x;</a>"): "Client",
        b"<Envelope/>": "VersionMismatch",
        envelope(REFERRAL, "urn:other"): "VersionMismatch",
        f'<s:Body xmlns:s="{V11}"/>'.encode(): "VersionMismatch",
        f'<s:Envelope xmlns:s="{V11}"/>'.encode(): "Client",
        envelope(""): "Client",
        envelope(REFERRAL * 2): "Client",
        envelope(f'<other xmlns="{MERCY}"/>'): "Client",
        envelope("<submitReferral/>"): "Client",
        envelope(f'<submitReferral xmlns="{MERCY}"><id>1</id></submitReferral>'): "Client",
        envelope("<a>" * 120 + "</a>" * 120): "Client",
    }
    async with serving(SoapSpec, service=SERVICE) as world:
        for body, code in bodies.items():
            status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
            assert (status, fault(answer)[0]) == (500, code), body
            assert b"passwd" not in answer
        for wrong in ("application/json", 'multipart/related; type="application/xop+xml"'):
            status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL), headers={"Content-Type": wrong})
            assert (status, fault(answer)[0]) == (415, "Client")
        assert (await world.ask("PUT", "/", data=envelope(REFERRAL), headers=kind()))[0] == 405
        assert not world.kept.messages


async def test_a_version_that_is_not_taken_is_told_which_are() -> None:
    async with serving(SoapSpec, service=SERVICE | {"versions": ["1.2"]}) as world:
        status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL), headers=kind())
        assert (status, fault(answer)[0]) == (500, "VersionMismatch")
        status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL, "urn:other"), headers=kind(V12))
        assert (status, fault(answer, V12)[0]) == (500, "VersionMismatch")
        assert f'<soap:SupportedEnvelope xmlns:e="{V12}" qname="e:Envelope"/></soap:Upgrade>'.encode() in answer


async def test_headers_that_must_be_understood_are_or_refuse_the_request() -> None:
    strange = '<x:Trace xmlns:x="urn:x" s:mustUnderstand="{}" s:{}="{}">1</x:Trace>'
    async with serving(SoapSpec, service=SERVICE) as world:
        for version, yes, aimed, ours, theirs in (
            (V11, "1", "actor", "http://schemas.xmlsoap.org/soap/actor/next", "urn:proxy"),
            (V12, "true", "role", f"{V12}/role/next", f"{V12}/role/none"),
        ):
            for must, whose, expected in ((yes, ours, 500), (yes, theirs, 200), ("0", ours, 200)):
                body = envelope(REFERRAL, version, strange.format(must, aimed, whose))
                status, answer, _ = await world.ask("POST", "/", data=body, headers=kind(version))
                assert status == expected
                if status != 200:
                    assert fault(answer, version)[0] == "MustUnderstand"
        status, answer, _ = await world.ask(
            "POST", "/", data=envelope(REFERRAL, V12, strange.format("1", "role", "")), headers=kind(V12)
        )
        assert b'<soap:NotUnderstood xmlns:q="urn:x" qname="q:Trace"/>' in answer
        # Nobody here has a user and a password, so a token cannot be checked.
        status, answer, _ = await world.ask(
            "POST", "/", data=envelope(REFERRAL, V11, token("clinic", "x")), headers=kind()
        )
        assert fault(answer)[0] == "MustUnderstand"


async def test_answers_are_addressed_where_the_request_was() -> None:
    wsa = "http://www.w3.org/2005/08/addressing"
    header = (
        f'<a:Action xmlns:a="{wsa}" s:mustUnderstand="1">x</a:Action><a:MessageID xmlns:a="{wsa}">urn:uuid:1&amp;2'
        f'</a:MessageID><a:ReplyTo xmlns:a="{wsa}"><a:Address>{wsa}/anonymous</a:Address></a:ReplyTo>'
    )
    async with serving(SoapSpec, service=SERVICE) as world:
        status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL, V12, header), headers=kind(V12))
        assert status == 200
        assert f'<wsa:Action xmlns:wsa="{wsa}">{MERCY}:submitReferralResponse</wsa:Action>'.encode() in answer
        assert f'<wsa:RelatesTo xmlns:wsa="{wsa}">urn:uuid:1&amp;2</wsa:RelatesTo>'.encode() in answer
        away = header.replace(f"{wsa}/anonymous", "http://elsewhere.example/")
        status, answer, _ = await world.ask("POST", "/", data=envelope(REFERRAL, V12, away), headers=kind(V12))
        assert (status, fault(answer, V12)[0]) == (400, "Sender OnlyAnonymousAddressSupported")
        assert f"{wsa}/soap/fault".encode() in answer


async def test_text_and_base64_and_xml_are_taken_as_they_are() -> None:
    cda = (
        '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1"/>'
        '<code xsi:type="CD"/></ClinicalDocument>'
    )
    service = {"namespace": MERCY, "operations": {"put": {"message": "document"}}}
    put = f'<put xmlns="{MERCY}"><document>%s</document></put>'
    async with serving(SoapSpec, service=service) as world:
        await world.ask("POST", "/", data=envelope(put % '<![CDATA[{"a": "1 < 2"}]]>'), headers=kind())
        assert world.kept.bodies == [b'{"a": "1 < 2"}']
        for wrong in ("", "<![CDATA[{]]>"):
            status, answer, _ = await world.ask("POST", "/", data=envelope(put % wrong), headers=kind())
            assert (status, fault(answer)[0]) == (500, "Client")
        assert world.kept.quarantined == [b"{"]
    service["operations"] = {"put": {"message": "document", "content": "base64"}}
    async with serving(SoapSpec, service=service) as world:
        wrapped = base64.encodebytes(b'{"a": 1}').decode()
        await world.ask("POST", "/", data=envelope(put % wrapped), headers=kind())
        assert world.kept.bodies == [b'{"a": 1}']
        status, answer, _ = await world.ask("POST", "/", data=envelope(put % "{}"), headers=kind())
        assert fault(answer) == ("Client", "the message at document of the request is no Base64")
    service["operations"] = {"put": {"message": "document/{urn:hl7-org:v3}ClinicalDocument", "content": "xml"}}
    async with serving(SoapSpec, "cda", service=service) as world:
        _, answer, _ = await world.ask("POST", "/", data=envelope(put % cda), headers=kind())
        (kept,) = world.kept.bodies
        assert b'<code xsi:type="CD">' in kept
        assert inner(answer)[0].text == "0000000000001"
        status, answer, _ = await world.ask("POST", "/", data=envelope(put % ""), headers=kind())
        assert fault(answer)[0] == "Client"


async def test_the_answer_may_wait_for_the_steps_or_a_delivery() -> None:
    operations = {
        "put": {"message": ".", "content": "json", "response": {"xml": "<putResponse>{{ response }}</putResponse>"}}
    }
    service = {"namespace": MERCY, "operations": operations}
    body = envelope(f'<put xmlns="{MERCY}"><a>1</a></put>')
    async with serving(SoapSpec, service=service, answer={"from": "deliver.reply", "timeout": "100ms"}) as world:
        status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
        assert (status, fault(answer)) == (
            500,
            ("Server", "message 0000000000001 is kept, and its delivery to reply did not end in time"),
        )
        world.kept.concluded["reply"] = Conclusion("delivered", response=b'<?xml version="1.0"?><of>7</of>')
        status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
        assert (status, [(part.tag, part.text) for part in inner(answer)]) == (200, [(f"{{{MERCY}}}of", "7")])
        world.kept.concluded["reply"] = Conclusion("delivered", response=b"<of>7")
        status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
        assert (status, fault(answer)[0]) == (500, "Server")
        for state, code in (("failed", "Client"), ("dead", "Server")):
            world.kept.concluded["reply"] = Conclusion(state, "no MRN")
            status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
            assert (status, fault(answer)[0]) == (500, code)
            assert f"ended as {state}: no MRN".encode() in answer
        world.kept.concluded["reply"] = Conclusion("absent")
        status, answer, _ = await world.ask("POST", "/", data=body, headers=kind())
        assert (status, list(inner(answer))) == (200, [])
        assert not [notice for notice in world.kept.notices if isinstance(notice, MessageRefused)]  # all are kept


async def test_too_much_is_a_fault_of_its_own() -> None:
    async with serving(SoapSpec, "hl7", preset="cdc_2011", max_body="1KiB") as world:
        for version, status in ((V11, 500), (V12, 400)):
            found = await world.ask("POST", "/", data=envelope(submit("x" * 2000), version), headers=kind(version))
            (detail,) = inner(found[1], version)[-1]
            assert (found[0], detail.tag) == (status, f"{{{CDC}}}MessageTooLargeFault")
            assert [part.text for part in detail][:2] == ["413", "MessageTooLarge"]


async def test_while_the_disk_is_nearly_full_senders_are_told_to_come_again() -> None:
    async with serving(SoapSpec, "hl7", preset="cdc_2011") as world:
        world.tools.pressure.look(0)
        for version, code in ((V11, "Server"), (V12, "Receiver")):
            body = envelope(submit(), version)
            status, answer, headers = await world.ask("POST", "/", data=body, headers=kind(version))
            assert (status, headers["retry-after"], fault(answer, version)[0]) == (503, "5", code)
        assert not world.kept.messages


def test_declarations_that_cannot_be_are_refused() -> None:
    taking: dict[str, Any] = {"message": "a"}
    asking = taking | {"request": {"a": "required"}}
    for wrong, told in (
        ({}, "say `preset` or `service`"),
        ({"preset": "cdc_2011", "service": SERVICE}, "say `preset` or `service`"),
        ({"preset": "cdc"}, "there is no preset 'cdc'"),
        ({"preset": "cdc_2011", "endpoint": "0.0.0.0:1", "anonymous": "x", "unprotected": "x"}, "say in `url`"),
        (_service(put={}), "no operation takes a message"),
        (_service(put=taking | {"request": {"b": "required"}}), "a is not among the elements of `request`"),
        (_service(put=taking | {"lists": ["b"]}), "`lists` goes with"),
        (_service(put={"message": "."}), "the whole request is no text"),
        (_service(put={"login": ["a", "b"]}), "go with a `message`"),
        (_service(put=taking | {"response": {"fields": {"a": "{{ body }}"}}}), "knows acknowledgment, message"),
        (_service(put=taking, ping={"response": {"fields": {"a": "{{ message }}"}}}), "knows channel and"),
        (_service(put=asking | {"response": {"fields": {"a": "{{ request.b }}"}}}), "b is not among"),
        (_service(put=taking | {"response": {"xml": "<a>", "fields": {}}}), "one element that can stand alone"),
        (_service(put=taking | {"response": {"xml": "<a/>", "element": "b"}}), "`xml`, or `element`"),
        (_service(put=taking | {"response": {"xml": "<!-- <b> --><a/>"}}), "begins with the element"),
        (_service(put=taking | {"response": {"xml": '<a xmlns="urn:b"/>'}}), "of namespace urn:b, and not"),
        (_service(put=taking | {"response": {"element": "put"}}), "which is something else as well"),
        (_service(put=taking, get=taking | {"response": {"element": "putResponse"}}), "which is something else"),
        (_service(put=taking, get=taking | {"element": "put"}), "asked for by the element put"),
        (_service(put=taking | {"content": "xml"}, get=taking | {"content": "json"}), "bring cda and json"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            SoapSpec.model_validate({"endpoint": "127.0.0.1:0", **wrong})


def _service(**operations: Any) -> dict[str, Any]:
    return {"service": {"namespace": MERCY, "operations": operations}}
