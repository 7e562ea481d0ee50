"""This module declares who may call the ways in over HTTP: ``callers`` in handoff.yaml."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator, model_validator

from broker.hosts import safe_place
from broker.spec import Seconds, Spec
from config.secrets import Secret

_REFERENCE = "as a reference: ${env:NAME} or ${file:/path}."
_OLD = f"The one before, which is taken as well while callers change over, {_REFERENCE}"


class BearerSpec(Spec):
    """A fixed token, sent as ``Authorization: Bearer``."""

    token: Secret = Field(description=f"The token, {_REFERENCE}")
    old_token: Secret | None = Field(default=None, description=_OLD)


class BasicSpec(Spec):
    """A user and a password, sent as ``Authorization: Basic`` (RFC 7617)."""

    user: str = Field(min_length=1, pattern="^[^:]+$", description="The user's name.")
    password: Secret = Field(description=f"The password, {_REFERENCE}")
    old_password: Secret | None = Field(default=None, description=_OLD)


class ApiKeySpec(Spec):
    """A fixed key in a header, or in the query of the address."""

    header: str = Field(default="x-api-key", pattern="^[A-Za-z0-9-]+$", description="The header that holds it.")
    query: str | None = Field(
        default=None, min_length=1, description="The parameter of the address that holds it instead, such as `code`."
    )
    secret: Secret = Field(description=f"The key, {_REFERENCE}")
    old_secret: Secret | None = Field(default=None, description=_OLD)


class JwtSpec(Spec):
    """A token that an authorization server signs (RFC 7519, RFC 9068), such as SMART Backend Services hands out."""

    issuer: str = Field(min_length=1, description="Who signs: the claim `iss` must be this.")
    audience: str = Field(min_length=1, description="For whom: the claim `aud` must hold this.")
    jwks: str = Field(
        min_length=1,
        description="The signer's public keys: a file (JSON), or an https address that is asked when a key is new.",
    )
    algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "EdDSA"]] = Field(
        default=["RS256", "RS384", "ES256", "ES384"], min_length=1, description="The signatures that are taken."
    )
    clients: list[str] = Field(
        default=[], description="Who may call: `client_id`, `azp` or `sub` must be one of these; empty: anybody known."
    )
    skew: Seconds = Field(default=60.0, le=300, description="How far the clocks may be apart.")

    @field_validator("jwks")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        return safe_place(value)


class SigningSpec(Spec):
    """Every request is signed with a secret that both sides know; the listener says how."""

    secret: Secret = Field(description=f"The secret, {_REFERENCE}")
    old_secret: Secret | None = Field(default=None, description=_OLD)


class CallerSpec(Spec):
    """One caller: exactly one way to prove who it is."""

    bearer: BearerSpec | None = Field(default=None, description="A fixed token.")
    basic: BasicSpec | None = Field(default=None, description="A user and a password.")
    api_key: ApiKeySpec | None = Field(default=None, description="A fixed key in a header or in the query.")
    jwt: JwtSpec | None = Field(default=None, description="A token signed by an authorization server.")
    certificate: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names in the client's certificate: host name, common name or SHA-256 fingerprint; needs tls.ca.",
    )
    signature: SigningSpec | None = Field(default=None, description="A signature over every request.")
    scopes: list[str] | None = Field(
        default=None,
        description="What it may do at a FHIR endpoint, as SMART scopes such as system/Patient.c; without them, what "
        "its token says, and anything where it has none.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> "CallerSpec":
        kinds = list(self.kinds())
        if len(kinds) != 1:
            known = "bearer, basic, api_key, jwt, certificate, signature"
            raise ValueError(f"a caller needs exactly one of {known}; found {' and '.join(kinds) or 'none'}")
        return self

    def kinds(self) -> Iterator[str]:
        """Yield the ways in which it proves who it is."""
        for name in ("bearer", "basic", "api_key", "jwt", "certificate", "signature"):
            if getattr(self, name) is not None:
                yield name
