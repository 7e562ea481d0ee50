"""A client that knows nothing of us makes itself from our WSDL, and is understood: zeep, in both versions of SOAP."""

import asyncio
import json
from typing import Any, Final
from xml.sax.saxutils import escape

import pytest
import zeep
from lxml import etree
from zeep.exceptions import Fault
from zeep.wsse.username import UsernameToken

from broker.errors import NotAccepted
from listeners.soap import SoapSpec
from tests.http_peer import World, serving
from tests.soap_peer import envelope, kind

VXU: Final = "MSH|^~\\&|CLINIC|MERCY|IIS|STATE|20261120||VXU^V04^VXU_V04|M1|P|2.5.1\rPID|1||17||Ok\u00e1for<&>\r"
CLINIC: Final = {"clinic": {"basic": {"user": "clinic", "password": "${env:CLINIC}"}}}
SERVICE: Final[dict[str, Any]] = {
    "name": "Referrals",
    "namespace": "urn:mercy:referrals",
    "operations": {
        "submitReferral": {
            "action": "urn:mercy:referrals/submit",
            "request": {"id": "required", "patient": "required", "note": "optional"},
            "message": "patient",
            "content": "json",
            "response": {"fields": {"message": "{{ message }}", "to": "{{ request.id }}"}},
        },
        "attach": {"message": "file", "content": "base64", "response": {"xml": "<attached>{{ message }}</attached>"}},
        "ping": {},
    },
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC", "pass<word>")


async def client(world: World, port: str, wsse: Any = None) -> Any:
    """Return a client for a port of the service, made from the WSDL that the listener gives."""

    def make() -> Any:
        made = zeep.Client(world.url("/iis?wsdl"), wsse=wsse)
        return made.bind(port_name=port) if port else made.service

    return await asyncio.to_thread(make)


@pytest.mark.parametrize("port", ["", "IISServiceSoap11"])
async def test_the_service_of_the_cdc_is_called(port: str) -> None:
    async with serving(SoapSpec, "hl7", CLINIC, preset="cdc_2011", path="/iis") as world:
        service = await client(world, port)
        assert await asyncio.to_thread(service.connectivityTest, echoBack="Ünd <&>") == "Ünd <&>"
        submit = {"username": "clinic", "password": "pass<word>", "facilityID": "MERCY", "hl7Message": VXU}
        told = await asyncio.to_thread(service.submitSingleMessage, **submit)
        assert told.endswith("\rMSA|AA|M1\r")
        assert world.kept.bodies == [VXU.encode()]
        with pytest.raises(Fault, match="nobody knows this caller") as caught:
            await asyncio.to_thread(service.submitSingleMessage, **(submit | {"password": "guess"}))
        (detail,) = caught.value.detail
        assert detail.tag == "{urn:cdc:iisb:2011}SecurityFault"
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        with pytest.raises(Fault, match="send it again later") as caught:
            await asyncio.to_thread(service.submitSingleMessage, **submit)
        assert caught.value.code.rpartition(":")[2] == ("Server" if port else "Receiver")


@pytest.mark.parametrize("use_digest", [True, False])
async def test_tokens_of_ws_security_are_read(use_digest: bool) -> None:
    async with serving(SoapSpec, "hl7", CLINIC, preset="cdc_2011", path="/iis") as world:
        service = await client(world, "", UsernameToken("clinic", "pass<word>", use_digest=use_digest))
        for _ in range(2):  # a new token each time
            told = await asyncio.to_thread(service.submitSingleMessage, hl7Message=VXU)
            assert "MSA|AA|M1" in told
        guessing = await client(world, "", UsernameToken("clinic", "guess", use_digest=use_digest))
        with pytest.raises(Fault, match="nobody knows this caller"):
            await asyncio.to_thread(guessing.submitSingleMessage, hl7Message=VXU)


@pytest.mark.parametrize("port", ["ReferralsSoap11", "ReferralsSoap12"])
async def test_a_service_of_ones_own_is_called(port: str) -> None:
    async with serving(SoapSpec, service=SERVICE, path="/iis") as world:
        service = await client(world, port)
        name = zeep.xsd.Element("{urn:mercy:referrals}name", zeep.xsd.String())
        patient = {"_value_1": zeep.xsd.AnyObject(name, "Okáfor")}
        told = await asyncio.to_thread(service.submitReferral, id="r-1", patient=patient)
        assert (told["message"], told["to"]) == ("0000000000001", "r-1")
        assert json.loads(world.kept.bodies[0])["name"] == "Okáfor"
        await asyncio.to_thread(service.attach, file=b'{"a": 1}')
        assert world.kept.bodies[1] == b'{"a": 1}'
        await asyncio.to_thread(service.ping)
        assert len(world.kept.messages) == 2


SUBMIT: Final = (
    f"<submitSingleMessage xmlns='urn:cdc:iisb:2011'><hl7Message>{escape(VXU)}</hl7Message></submitSingleMessage>"
)
REFER: Final = "<submitReferral xmlns='urn:mercy:referrals'><id>1</id><patient a='1'>x<y/></patient></submitReferral>"
ATTACH: Final = "<attach xmlns='urn:mercy:referrals'><file>e30=</file></attach>"
PING: Final = "<ping xmlns='urn:mercy:referrals'/>"


@pytest.mark.parametrize("asked", [SUBMIT, REFER, ATTACH, PING])
async def test_what_is_asked_and_answered_is_as_the_schema_of_the_wsdl_says(asked: str) -> None:
    form, options = ("hl7", {"preset": "cdc_2011"}) if asked is SUBMIT else ("json", {"service": SERVICE})
    async with serving(SoapSpec, form, path="/iis", **options) as world:
        _, wsdl, _ = await world.ask("GET", "/iis?wsdl")
        schema = etree.XMLSchema(etree.fromstring(wsdl).find("{*}types/{*}schema"))
        schema.assertValid(etree.fromstring(asked))
        _, answer, _ = await world.ask("POST", "/iis", data=envelope(asked), headers=kind())
        schema.assertValid(etree.fromstring(answer).find("{*}Body")[0])
        if form == "hl7":
            unknown = envelope("<other xmlns='urn:cdc:iisb:2011'/>")
            _, answer, _ = await world.ask("POST", "/iis", data=unknown, headers=kind())
            (detail,) = etree.fromstring(answer).find("{*}Body/{*}Fault/detail")
            schema.assertValid(detail)
            assert detail.findtext("{*}Reason") == "UnsupportedOperation"


async def test_the_wsdl_names_the_address_and_nothing_else_is_to_be_had() -> None:
    url = "https://hie.mercy.example/iis"
    async with serving(SoapSpec, "hl7", CLINIC, preset="cdc_2011", path="/iis", url=url) as world:
        status, told, headers = await world.ask("GET", "/iis?WSDL")
        assert (status, headers["content-type"]) == (200, "text/xml; charset=utf-8")
        assert told.count(f'location="{url}"'.encode()) == 2
        status, _, headers = await world.ask("GET", "/iis")
        assert (status, headers["allow"]) == (405, "POST")
