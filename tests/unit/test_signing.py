"""Signing keys: which are taken, what they sign with, and how the folder keeps them."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.errors import ConfigError
from console.cli import main
from dispatch import key_folder
from dispatch.signing import ALGORITHMS, make_key, read_key, thumbprint
from tests.contract.token_server import unpadded, verify

NOW = 1_700_000_000.0
DAY = key_folder.ANNOUNCED


def pem(private: Any) -> str:
    return str(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


# ---------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_signed_can_be_checked_with_the_public_half(algorithm: str) -> None:
    key = make_key(algorithm)
    signed = key.sign({"iss": "a"}, {"jku": "b"})
    header, claims = verify(signed, {"keys": [key.public_jwk()]})
    assert header == {"alg": algorithm, "kid": key.name, "typ": "JWT", "jku": "b"}
    assert claims == {"iss": "a"}
    with pytest.raises(InvalidSignature):
        verify(signed, {"keys": [{**make_key(algorithm).public_jwk(), "kid": key.name}]})


def test_thumbprint_is_that_of_rfc_7638() -> None:
    """The key of RFC 7638, 3.1, whose thumbprint is given there."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjh"
        "Mstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL"
        "5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    found = thumbprint({"e": "AQAB", "kty": "RSA", "n": modulus})
    assert found == unpadded("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").hex()


def test_key_that_is_given_gets_the_algorithm_of_its_kind() -> None:
    small = rsa.generate_private_key(65537, 2048)
    assert read_key(pem(small), "x").algorithm == "RS384"
    assert read_key(pem(small), "x", algorithm="RS256", name="mine").name == "mine"
    assert read_key(pem(ec.generate_private_key(ec.SECP256R1())), "x").algorithm == "ES256"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (lambda: "no key", "no private key in PEM"),
        (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "RSA key or one on the curve"),
        (lambda: pem(ec.generate_private_key(ec.SECP521R1())), "found one on secp521r1"),
        (lambda: pem(rsa.generate_private_key(65537, 1024)), "needs 2048 bits or more, found 1024"),  # noqa: S505 - refused
    ],
)
def test_key_that_cannot_be_used_is_refused(text: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^servers.e: .*{why}"):
        read_key(text(), "servers.e")


def test_private_half_shows_nowhere() -> None:
    key = make_key("ES256")
    assert "private" not in repr(key)
    assert "d" not in key.public_jwk()


# -------------------------------------------------------------------------------------------------------------- folder


def test_first_key_signs_at_once_and_the_next_a_day_later(tmp_path: Path) -> None:
    first = key_folder.make(tmp_path, "ES384", NOW)
    second = key_folder.make(tmp_path, "ES384", NOW + 10)
    assert key_folder.choose(tmp_path, NOW + 20, ["ES384"]).name == first.key.name
    assert key_folder.choose(tmp_path, NOW + DAY + 10, ["ES384"]).name == second.key.name
    assert [key["kid"] for key in key_folder.jwks(tmp_path)["keys"]] == [second.key.name, first.key.name]
    third = key_folder.make(tmp_path, "ES384", NOW + 30, at_once=True)
    assert key_folder.choose(tmp_path, NOW + 30, ["ES384"]).name == third.key.name


def test_the_algorithm_that_is_preferred_is_chosen(tmp_path: Path) -> None:
    key_folder.make(tmp_path, "ES384", NOW)
    assert key_folder.choose(tmp_path, NOW, ["RS384", "ES384"]).algorithm == "ES384"
    key_folder.make(tmp_path, "RS384", NOW)
    assert key_folder.choose(tmp_path, NOW, ["RS384", "ES384"]).algorithm == "RS384"
    with pytest.raises(ConfigError, match="no key that signs with ES256; run `handoff keys make`"):
        key_folder.choose(tmp_path, NOW, ["ES256"])


def test_retired_key_is_gone_but_never_the_last(tmp_path: Path) -> None:
    first = key_folder.make(tmp_path, "ES256", NOW)
    with pytest.raises(ConfigError, match="is the only key that signs with ES256; make another first"):
        key_folder.retire(tmp_path, first.key.name, NOW)
    second = key_folder.make(tmp_path, "ES256", NOW)
    with pytest.raises(ConfigError, match="is the only key that signs"):  # the second does not sign yet
        key_folder.retire(tmp_path, first.key.name, NOW)
    key_folder.retire(tmp_path, first.key.name, NOW + DAY)
    assert [live.key.name for live in key_folder.live_keys(tmp_path)] == [second.key.name]
    with pytest.raises(ConfigError, match="there is no key nope"):
        key_folder.retire(tmp_path, "nope", NOW)


def test_key_that_does_not_sign_yet_may_be_retired(tmp_path: Path) -> None:
    key_folder.make(tmp_path, "ES256", NOW)
    second = key_folder.make(tmp_path, "ES256", NOW)
    key_folder.retire(tmp_path, second.key.name, NOW)
    assert len(key_folder.live_keys(tmp_path)) == 1


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = key_folder.make(tmp_path, "ES256", NOW)
    path = tmp_path / "keys" / f"{made.key.name}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640\); run chmod 600"):
        key_folder.live_keys(tmp_path)


@pytest.mark.parametrize("change", [b"{}", b"no json", b"[]", {"algorithm": "none"}, {"name": "../x"}, {"made_at": []}])
def test_file_that_is_no_key_is_named(tmp_path: Path, change: Any) -> None:
    made = key_folder.make(tmp_path, "ES256", NOW)
    path = tmp_path / "keys" / f"{made.key.name}.json"
    path.write_bytes(
        change if isinstance(change, bytes) else json.dumps({**json.loads(path.read_text()), **change}).encode()
    )
    with pytest.raises(ConfigError, match=f"{made.key.name}.json is no key"):
        key_folder.live_keys(tmp_path)


# ------------------------------------------------------------------------------------------------------------ commands


def test_commands_make_list_print_and_retire(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert main.invoke(["--data", str(tmp_path), "keys", *words]) == 0
        return capsys.readouterr().out

    first = said("make", "--algorithm", "ES384").strip()
    second = json.loads(said("make", "--algorithm", "ES384", "--json"))
    assert second["state"].startswith("published, signs from ")
    assert first in said("list")
    listed = json.loads(said("list", "--json"))["keys"]
    assert {one["name"]: one["state"] for one in listed}[first] == "signs"
    assert {key["kid"] for key in json.loads(said("jwks"))["keys"]} == {first, second["name"]}
    said("make", "--algorithm", "ES384", "--now")
    said("retire", first)
    assert first not in said("list")
    assert main.invoke(["--data", str(tmp_path), "keys", "retire", first]) == 1
    assert "there is no key" in capsys.readouterr().err
