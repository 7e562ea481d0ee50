"""This module shows that TLS towards a partner holds: the right name, the right authority, our own certificate."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.delivery import Delivered, Outcome, Retry
from broker.errors import ConfigError
from broker.notices import HandshakeFailed
from dispatch.mllp import MllpOutSpec
from dispatch.mllp_partner import Awaited, Partner
from tests.certificates import Authority
from tests.contract.scripted_partner import ScriptedPartner, answer
from tests.contract.test_mllp_out_contract import build, send, tools


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def partner(authority: Authority) -> AsyncIterator[ScriptedPartner]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(authority.vouch("ehr.example"))
    partner = ScriptedPartner([answer("AA")], context=context)
    await partner.start()
    yield partner
    await partner.stop()


async def attempt(partner: ScriptedPartner, **tls: Any) -> Outcome:
    named = {name: str(value) for name, value in tls.items()}
    destination = build(partner.port, tls=named, timeout="2s", connect="2s")
    await destination.open()
    outcome = await send(destination)
    await destination.close()
    return outcome


async def test_partner_with_the_right_name_gets_the_message(partner: ScriptedPartner, authority: Authority) -> None:
    outcome = await attempt(partner, ca=authority.file, server_name="ehr.example")
    assert isinstance(outcome, Delivered), outcome
    assert outcome.via is not None
    assert outcome.via.tls == "TLSv1.3"
    assert outcome.via.subject == "CN=ehr.example"
    assert len(outcome.via.sha256) == 64


async def test_partner_that_is_not_who_it_should_be_gets_nothing_and_the_reason_says_why(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    named = {"ca": authority.file, "server_name": "ehr.example"}
    for files, tls, why in (
        (authority.issue("ehr.example", days=-1, file="late"), named, "its certificate has ended"),
        (authority.issue("ehr.example", begins=2, file="early"), named, "its certificate is not valid yet"),
        (authority.issue("lab.example"), named, "its certificate is for another name"),
        (other.issue("ehr.example", file="other"), named, "nobody whom we trust vouches for its certificate"),
        (authority.issue("ehr.example"), {}, "nobody whom we trust vouches for its certificate"),
    ):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
        partner = ScriptedPartner([answer("AA")], context=context)
        await partner.start()
        outcome = await attempt(partner, **tls)
        await partner.stop()
        assert outcome == Retry(f"partner 127.0.0.1:{partner.port}: TLS could not be set up ({why})", is_away=True)
        assert not partner.requests


async def test_partner_at_another_address_gets_nothing(partner: ScriptedPartner, authority: Authority) -> None:
    outcome = await attempt(partner, ca=authority.file)
    assert isinstance(outcome, Retry), outcome
    assert "its certificate is for another address" in outcome.reason
    assert not partner.requests


class Strict(threading.Thread):
    """A partner that wants our certificate, and tells the reason when there is none (asyncio's servers do not)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self.context = context
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.read = b""
        self.start()

    def run(self) -> None:
        """Serve one connection."""
        plain, _ = self.listening.accept()
        plain.settimeout(5)
        secure = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self.listening, secure:
            try:
                secure.do_handshake()
                self.read = secure.recv(65536)
            except ssl.SSLError:
                # Unread bytes would make TCP reset the connection, and the reason could get lost.
                with contextlib.suppress(OSError):
                    while socket.socket.recv(secure, 65536):
                        pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_partner_that_wants_a_certificate_of_ours_reads_nothing_without_one(
    partner: ScriptedPartner, authority: Authority, version: ssl.TLSVersion
) -> None:
    assert partner.context is not None
    partner.context.verify_mode = ssl.CERT_REQUIRED
    partner.context.maximum_version = version
    trusted = {"ca": str(authority.file), "server_name": "ehr.example"}
    strict = Strict(partner.context)
    destination = build(strict.port, tls=trusted, timeout="2s", connect="2s")
    outcome = await send(destination)
    assert isinstance(outcome, Retry), outcome
    assert "TLS could not be set up" in outcome.reason
    await asyncio.to_thread(strict.join)
    assert not strict.read
    outcome = await attempt(partner, **trusted, certificate=authority.vouch("handoff.example"))
    assert isinstance(outcome, Delivered), outcome


async def test_partner_that_dials_in_shows_who_it_is(authority: Authority) -> None:
    ours, theirs = authority.vouch("handoff.example"), authority.vouch("ehr.example")
    spec = MllpOutSpec.model_validate(
        {"listen": "127.0.0.1:0", "timeout": "2s", "tls": {"ca": str(authority.file), "certificate": str(ours)}}
    )
    notices: list[Any] = []
    destination = spec.build(replace(tools(), notify=notices.append))
    assert isinstance(destination, Partner)
    assert isinstance(destination.lines, Awaited)
    await destination.open()
    port = int(destination.lines.endpoint.rpartition(":")[2])
    partner = ScriptedPartner([answer("AA")])
    context = ssl.create_default_context(cafile=authority.file)
    stranger = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="handoff.example")
    context.load_cert_chain(theirs)
    known = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="handoff.example")
    serving = [asyncio.create_task(partner.serve(*each)) for each in (stranger, known)]
    assert isinstance(await send(destination), Delivered)
    assert len(partner.requests) == 1
    (failed,) = notices
    assert (type(failed), failed.channel) == (HandshakeFailed, "adt")
    assert failed.peer.startswith("127.0.0.1:")
    assert failed.reason == "TLS could not be set up (it showed no certificate)"
    await destination.close()
    await asyncio.gather(*serving, return_exceptions=True)


def test_certificate_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for tls, why in (
        ({"ca": "/nowhere.pem"}, "No such file"),
        (
            {"certificate": str(tmp_path / "no.pem")},
            r"adt: mllp\.tls\.certificate: .*no\.pem or its key is not",
        ),
    ):
        with pytest.raises(ConfigError, match=why):
            build(1, tls=tls)
