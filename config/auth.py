"""This module declares how requests are authorised: the block ``auth:`` of what the engine calls over HTTP."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from broker.spec import RESERVED_HEADERS, Seconds, Spec
from config.address import SecretAddress
from config.secrets import Secret

_RESERVED = RESERVED_HEADERS | {"content-type"}


def _header_name(value: str) -> str:
    if not value.isascii() or not value.replace("-", "").replace("_", "").isalnum() or value.lower() in _RESERVED:
        text = "needs the name of a header, such as X-Api-Key"
        raise ValueError(text)
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]


class BearerSpec(Spec):
    """A token that does not change, sent as ``Authorization: Bearer …``."""

    token: Secret = Field(description="The token, as a reference.")


class BasicSpec(Spec):
    """HTTP's Basic scheme."""

    username: str = Field(min_length=1, description="The user name.")
    password: Secret = Field(description="The password, as a reference.")


class ApiKeySpec(Spec):
    """A key in a header, or in the query of every address."""

    secret: Secret = Field(description="The key, as a reference.")
    header: HeaderName | None = Field(default=None, description="The header that it goes into.")
    query: str | None = Field(default=None, min_length=1, description="The query parameter that it goes into.")
    prefix: str = Field(default="", description="What stands before it, such as `Token token=`.")

    @model_validator(mode="after")
    def _in_one_place(self) -> "ApiKeySpec":
        if (self.header is None) == (self.query is None):
            raise ValueError("the key goes into one place; name either `header` or `query`")
        return self


class TokenSpec(Spec):
    """What all ways of fetching a token have in common."""

    fields: dict[str, str] = Field(default={}, description="More fields of the form that asks for a token.")
    scheme: str = Field(
        default="Bearer", pattern=r"^[A-Za-z-]+$", description="The word before the token in `Authorization`."
    )
    base_from: str | None = Field(
        default=None,
        description="The field of the token's answer that names the system's address, such as instance_url.",
    )


class SecretClientSpec(TokenSpec):
    """A client that the token endpoint knows by a secret."""

    token_url: SecretAddress = Field(description="Address of the token endpoint.")
    client_id: str = Field(min_length=1, description="The client's id.")
    secret_in: Literal["basic", "body"] = Field(
        default="basic", description="Where id and secret go: into the Authorization header, or into the form."
    )
    scope: str | None = Field(default=None, description="What the token shall allow.")


class ClientCredentialsSpec(SecretClientSpec):
    """OAuth 2.0 client credentials (RFC 6749, 4.4)."""

    client_secret: Secret = Field(description="The client's secret, as a reference.")
    audience: str | None = Field(default=None, description="For whom the token shall be, where the endpoint asks.")
    resource: str | None = Field(default=None, description="For what the token shall be, where the endpoint asks.")


class RefreshTokenSpec(SecretClientSpec):
    """A refresh token (RFC 6749, 6); where the endpoint changes it, the newest is kept in the data folder."""

    token: Secret = Field(description="The refresh token, as a reference.")
    client_secret: Secret | None = Field(default=None, description="The client's secret, as a reference.")


class SigningSpec(TokenSpec):
    """A client that signs what it asks with."""

    private_key: Secret | None = Field(
        default=None, description="The private key in PEM, as a reference; left out, the keys of `handoff keys` sign."
    )
    kid: str | None = Field(default=None, description="The name that the other side knows `private_key` by.")

    @model_validator(mode="after")
    def _named_key(self) -> "SigningSpec":
        if self.kid is not None and self.private_key is None:
            raise ValueError("kid belongs to a `private_key`; the keys of `handoff keys` have their own names")
        return self


class JwtBearerSpec(SigningSpec):
    """A signed assertion as the grant (RFC 7523, 2.1)."""

    token_url: SecretAddress = Field(description="Address of the token endpoint.")
    issuer: str = Field(min_length=1, description="Who signs: the client's id or the service account.")
    subject: str | None = Field(default=None, description="On whose behalf, such as a user name.")
    audience: str | None = Field(default=None, description="For whom it is meant; by default `token_url`.")
    scope: str | None = Field(default=None, description="What the token shall allow.")
    claims: dict[str, str] = Field(default={}, description="More claims of the assertion.")
    algorithm: Literal["RS256", "RS384", "ES256", "ES384"] = Field(default="RS256", description="How it is signed.")
    lifetime: Seconds = Field(default=180.0, ge=10, le=3600, description="How long the assertion is valid.")


class SmartSpec(SigningSpec):
    """SMART Backend Services: a signed assertion that authenticates the client (RFC 7523, 2.2)."""

    client_id: str = Field(min_length=1, description="The client's id, as registered with the EHR.")
    scope: str = Field(min_length=1, description="What the token shall allow, such as system/Patient.crus.")
    token_url: SecretAddress | None = Field(
        default=None,
        description="Address of the token endpoint; left out, the server's .well-known/smart-configuration names it.",
    )
    audience: str | None = Field(default=None, description="For whom it is meant; by default the token endpoint.")
    algorithm: Literal["RS384", "ES384"] | None = Field(
        default=None, description="How it is signed; by default RS384 where there is such a key, else ES384."
    )
    jku: SecretAddress | None = Field(default=None, description="Where the public keys are, for servers that ask.")
    lifetime: Seconds = Field(default=240.0, ge=10, le=300, description="How long the assertion is valid.")


class AuthSpec(Spec):
    """How requests are authorised; exactly one of the ways."""

    bearer: BearerSpec | None = Field(default=None, description="A token that does not change.")
    basic: BasicSpec | None = Field(default=None, description="A user name and a password.")
    api_key: ApiKeySpec | None = Field(default=None, description="A key in a header or in the query.")
    client_credentials: ClientCredentialsSpec | None = Field(
        default=None, description="OAuth 2.0 with a client id and a secret."
    )
    jwt_bearer: JwtBearerSpec | None = Field(default=None, description="OAuth 2.0 with a signed assertion as grant.")
    refresh_token: RefreshTokenSpec | None = Field(default=None, description="OAuth 2.0 with a refresh token.")
    smart: SmartSpec | None = Field(default=None, description="SMART Backend Services, for EHRs.")

    @model_validator(mode="after")
    def _exactly_one(self) -> "AuthSpec":
        named = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(named) != 1:
            known = ", ".join(type(self).model_fields)
            text = f"there has to be one way to authorise; name exactly one of {known}"
            raise ValueError(text)
        return self
