"""The block `auth:`: what is refused at check time, where, and what is told to do."""

from pathlib import Path

import pytest

from config.secrets import SecretError, open_secrets
from config.settings import load, read_settings
from dispatch import key_folder
from dispatch.signing import make_key


def told(folder: Path, auth: str, **environment: str) -> list[str]:
    (folder / "handoff.yaml").write_text(f"servers:\n  ehr:\n    base: https://ehr.example/R4\n    auth: {auth}\n")
    _, findings = read_settings(folder / "handoff.yaml", environment=environment)
    return [f"{found.line}:{found.column} {found.text} ({found.hint})" for found in findings]


@pytest.mark.parametrize(
    ("auth", "finding"),
    [
        (
            "{}",
            "4:5 servers.ehr.auth: there has to be one way to authorise (name exactly one of bearer, basic, api_key, "
            "client_credentials, jwt_bearer, refresh_token, smart)",
        ),
        (
            "{bearer: {token: '${env:T}'}, basic: {username: a, password: '${env:T}'}}",
            "4:5 servers.ehr.auth: there has to be one way to authorise (name exactly one of bearer, basic, api_key, "
            "client_credentials, jwt_bearer, refresh_token, smart)",
        ),
        (
            "{smart: {client_id: a}}",
            '4:12 servers.ehr.auth.smart needs the key "scope" (What the token shall allow, such as '
            "system/Patient.crus.)",
        ),
        (
            "{smart: {client_id: a, scope: b, kid: x}}",
            "4:12 servers.ehr.auth.smart: kid belongs to a `private_key` (the keys of `handoff keys` have their own "
            "names)",
        ),
        (
            "{api_key: {header: Host, secret: '${env:T}'}}",
            '4:30 servers.ehr.auth.api_key.header needs the name of a header, such as X-Api-Key; found "Host" '
            "(The header that it goes into.)",
        ),
        (
            "{api_key: {secret: '${env:T}'}}",
            "4:12 servers.ehr.auth.api_key: the key goes into one place (name either `header` or `query`)",
        ),
        (
            "{bearer: {token: '${env:NOPE}'}}",
            "4:28 servers.ehr.auth.bearer.token: the environment variable NOPE is not set (set it before the start)",
        ),
        (
            "{bearer: {token: abc}}",
            "4:28 servers.ehr.auth.bearer.token holds a secret itself (write a reference: ${env:NAME}, ${file:/path} "
            "or ${keyring:name})",
        ),
        (
            "{client_credentials: {token_url: 'http://idp.example/t', client_id: x, client_secret: '${env:T}'}}",
            "4:44 servers.ehr.auth.client_credentials.token_url needs https, because secrets go there; plain http is "
            'for this machine only; found "http://idp.example/t" (Address of the token endpoint.)',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, auth: str, finding: str) -> None:
    assert told(tmp_path, auth, T="x") == [finding]


def test_private_key_that_cannot_sign_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(make_key("ES256").pem())
    (tmp_path / "key.pem").chmod(0o600)
    auth = f"{{smart: {{client_id: a, scope: b, algorithm: RS384, private_key: '${{file:{tmp_path}/key.pem}}'}}}}"
    (finding,) = told(tmp_path, auth)
    column = auth.index("'") + 11
    assert finding.startswith(f"4:{column} servers.ehr.auth.smart.private_key: this key cannot sign with RS384 (it can")
    assert told(tmp_path, "{smart: {client_id: a, scope: b, private_key: '${env:T}'}}", T="no key") == [
        "4:57 servers.ehr.auth.smart.private_key: this is no private key in PEM without a passphrase (BEGIN PRIVATE "
        "KEY) ()"
    ]
    (missing,) = told(tmp_path, "{smart: {client_id: a, scope: b, private_key: '${env:NOPE}'}}")
    assert "NOPE is not set" in missing


def test_missing_key_of_our_own_is_warned_of(tmp_path: Path) -> None:
    auth = "{smart: {client_id: a, scope: b}}"
    (finding,) = told(tmp_path, auth)
    assert finding.startswith("4:12 servers.ehr.auth.smart: ")
    assert "has no key that signs with RS384 or ES384; run `handoff keys make`" in finding
    key_folder.make(tmp_path / "var", "ES384", 0.0)
    assert told(tmp_path, auth) == []
    key_folder.make(tmp_path / "var", "ES384", 0.0)  # published, and signs later
    assert told(tmp_path, auth) == []
    (other,) = told(tmp_path, "{jwt_bearer: {token_url: 'https://x', issuer: y}}")
    assert "no key that signs with RS256" in other


def test_key_of_a_gateway_is_tried(tmp_path: Path) -> None:
    text = "gateways: {v: {kind: vonage-messages, application: a, private_key: '${env:K}', from: x}}"
    (tmp_path / "handoff.yaml").write_text(text)
    _, (found,) = read_settings(tmp_path / "handoff.yaml", environment={"K": "no key"})
    assert (found.code, found.text[:48]) == ("E406", "gateways.v.private_key: this is no private key i")


@pytest.mark.parametrize("host", ["https://idp.example", "http://localhost:1", "http://127.0.0.1", "http://[::1]:9"])
def test_secrets_go_over_tls_or_stay_here(tmp_path: Path, host: str) -> None:
    auth = f"{{client_credentials: {{token_url: '{host}/t', client_id: x, client_secret: '${{env:T}}'}}}}"
    assert told(tmp_path, auth, T="x") == []


def test_token_and_auth_are_two_ways(tmp_path: Path) -> None:
    text = "servers: {e: {base: 'https://x', token: '${env:T}', auth: {bearer: {token: '${env:T}'}}}}"
    (tmp_path / "handoff.yaml").write_text(text)
    _, (found,) = read_settings(tmp_path / "handoff.yaml", environment={"T": "x"})
    assert found.text == "servers.e: token is short for auth: {bearer: {token: …}}"


def test_secrets_are_looked_up_at_the_start(tmp_path: Path) -> None:
    text = "servers: {e: {base: 'https://x', auth: {basic: {username: a, password: '${env:T}'}}}}"
    (tmp_path / "handoff.yaml").write_text(text)
    auth = load(tmp_path / "handoff.yaml", environment={"T": "x"}).servers["e"].auth
    assert auth is not None
    assert auth.basic is not None
    assert auth.basic.password.reveal({}) == "x"


def test_secrets_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "handoff.yaml").write_text("servers: {e: {base: 'https://x', token: '${env:T}'}}")
    spec = load(tmp_path / "handoff.yaml", environment={"T": "x"}).servers["e"].model_copy(deep=True)
    with pytest.raises(SecretError):
        open_secrets([1, {"a": (spec,)}], {})
