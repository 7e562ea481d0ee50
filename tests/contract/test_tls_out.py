"""This module shows that TLS of one's own holds over HTTP: whom we trust, who we are, and what is told of failures."""

import asyncio
import itertools
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.delivery import Delivered, Outcome, Retry
from broker.errors import ConfigError
from broker.notices import CertificateTrouble, Notice
from broker.tls import Tls, TlsSpec
from dispatch.http import Answer, Exchange
from tests.certificates import Authority
from tests.contract.scripted_server import ScriptedServer, reply
from tests.contract.test_destination_contract import KINDS, delivery, tools
from tests.contract.test_mllp_out_tls import Strict


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who vouches for everybody here."""
    return Authority(tmp_path)


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[ScriptedServer]:
    """A server called crm.example, which wants to see a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(authority.vouch("crm.example"))
    context.verify_mode = ssl.CERT_REQUIRED
    server = ScriptedServer(context=context)
    server.on("POST", reply(200))
    await server.start()
    yield server
    await server.stop()


def ours(authority: Authority, name: str = "handoff.example", **more: str) -> TlsSpec:
    """Declare trust in an authority, and a certificate of its."""
    given = {"ca": str(authority.file), "server_name": "crm.example", "certificate": str(authority.vouch(name)), **more}
    return TlsSpec.model_validate(given)


async def ask(base: str, tls: Tls | None) -> Answer | Outcome:
    """Exchange one request."""
    http = Exchange("system crm", timeout=3, tls=tls)
    await http.open()
    answer = await http.exchange("POST", base, {}, b"{}")
    await http.close()
    return answer


def opened(spec: TlsSpec, said: list[Notice] | None = None, clock: Callable[[], float] = time.monotonic) -> Tls:
    """Read what a declaration names."""
    notices = [] if said is None else said
    return Tls(spec, Path(), "here", lambda why: notices.append(CertificateTrouble(channel="adt", reason=why)), clock)


@pytest.mark.parametrize("kind", ["sms by twilio", "sms by vonage-messages", "fhir create", "http create"])
async def test_every_kind_trusts_whom_it_is_told_and_shows_who_we_are(
    kind: str, server: ScriptedServer, authority: Authority
) -> None:
    server.on("POST", KINDS[kind].good)
    destination = KINDS[kind].spec.build(tools(server.base, ours(authority)))
    await destination.open()
    (outcome,) = await destination.send([delivery(KINDS[kind].request)])
    await destination.close()
    assert isinstance(outcome, Delivered), outcome
    assert outcome.via is not None
    assert (outcome.via.tls, outcome.via.subject) == ("TLSv1.3", "CN=crm.example")
    assert server.callers == ["handoff.example"]


async def test_what_is_wrong_with_the_other_sides_certificate_is_told(
    server: ScriptedServer, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    nobody = "TLS could not be set up (nobody whom we trust vouches for its certificate)"
    for spec, why in (
        (ours(authority, server_name="ehr.example"), "TLS could not be set up (its certificate is for another name)"),
        (TlsSpec(ca=str(authority.file)), "TLS could not be set up (its certificate is for another address)"),
        (ours(authority, ca=str(other.file)), nobody),
        (None, nobody),
    ):
        tls = opened(spec) if spec is not None else None
        assert await ask(server.base, tls) == Retry(f"system crm: {why}", is_away=True)
    assert server.context is not None
    ended = authority.issue("crm.example", days=-1)
    server.context.load_cert_chain(ended.certificate, ended.key)
    outcome = await ask(server.base, opened(ours(authority)))
    assert outcome == Retry("system crm: TLS could not be set up (its certificate has ended)", is_away=True)
    assert not server.requests


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_server_that_wants_a_certificate_of_ours_reads_nothing_without_one(
    server: ScriptedServer, authority: Authority, version: ssl.TLSVersion
) -> None:
    assert server.context is not None
    server.context.maximum_version = version
    strict = Strict(server.context)
    tls = opened(TlsSpec(ca=str(authority.file), server_name="crm.example"))
    outcome = await ask(f"https://127.0.0.1:{strict.port}", tls)
    assert isinstance(outcome, Retry), outcome
    assert outcome.reason.endswith("TLS could not be set up (it refused our certificate, or wants one)")
    await asyncio.to_thread(strict.join)
    assert not strict.read


async def test_renewed_certificate_is_shown_from_the_next_connection_on(
    server: ScriptedServer, authority: Authority
) -> None:
    said: list[Notice] = []
    spec = ours(authority)
    assert spec.certificate is not None
    looks = itertools.count()  # each time that somebody asks, a second later
    file, tls = Path(spec.certificate), opened(spec, said, lambda: float(next(looks)))
    await ask(server.base, tls)
    os.replace(authority.vouch("new.example"), file)  # noqa: PTH105 - as those do it who renew certificates
    await ask(server.base, tls)
    await asyncio.to_thread(file.write_text, "half a certificate")
    await ask(server.base, tls)
    await ask(server.base, tls)
    assert server.callers == ["handoff.example", "new.example", "new.example", "new.example"]
    assert [notice.reason for notice in said if isinstance(notice, CertificateTrouble)] == [
        f"here.certificate: {file} or its key is not in PEM; what was read before stays in force"
    ]


def test_files_that_cannot_be_used_are_told_one_by_one(authority: Authority, tmp_path: Path) -> None:
    first, second = authority.issue("a.example"), authority.issue("b.example")
    (tmp_path / "empty.pem").touch(0o600)
    (tmp_path / "open.key").write_bytes(first.key.read_bytes())
    (tmp_path / "open.key").chmod(0o644)
    certificate, key, both = str(first.certificate), str(first.key), str(tmp_path / "both.pem")
    (tmp_path / "both.pem").write_bytes(first.key.read_bytes() + first.certificate.read_bytes())
    private = load_pem_private_key(first.key.read_bytes(), None)
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    (tmp_path / "locked.key").write_bytes(locked)
    for given, why in (
        ({"certificate": certificate, "key": str(tmp_path / "locked.key")}, "needs a key without a passphrase"),
        ({"ca": "/nowhere.pem"}, r"here\.ca: /nowhere\.pem cannot be read \(No such file"),
        ({"ca": key}, r"here\.ca: .* holds no certificate in PEM"),
        ({"certificate": certificate, "key": str(second.key)}, "and the key do not belong together"),
        ({"certificate": certificate, "key": str(tmp_path / "empty.pem")}, "or its key is not in PEM"),
        ({"certificate": certificate, "key": str(tmp_path / "open.key")}, r"here\.key: .* run chmod 600"),
        ({"certificate": both}, r"here\.certificate: .* holds a key and can be read by others"),
    ):
        with pytest.raises(ConfigError, match=why):
            opened(TlsSpec.model_validate(given))
    opened(TlsSpec(certificate=certificate, key=key))
