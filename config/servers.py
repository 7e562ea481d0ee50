"""This module declares the FHIR servers of handoff.yaml: where each is, what it takes, and how it is authorised to."""

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, model_validator

from broker.spec import Spec
from broker.tls import OwnTls
from config.address import Address
from config.auth import AuthSpec, HeaderName
from config.findings import nearest
from config.secrets import Secret
from dispatch.ehr_profile import profile_names

if TYPE_CHECKING:
    from broker.fhir.source import FhirSource
    from broker.parts import Tools


def _profile(value: str) -> str:
    names = profile_names()
    if value not in names:
        text = f"there is no such profile; {nearest(value, names) or 'there are'} {', '.join(names)}"
        raise ValueError(text)
    return value


class ServerSpec(Spec):
    """A FHIR R4 server."""

    base: Address = Field(description="Base address, such as https://ehr.example/R4; ${sandbox}/fhir is our own.")
    token: Secret | None = Field(
        default=None, description="A bearer token, as a reference: ${env:NAME} or ${file:/path}."
    )
    auth: AuthSpec | None = Field(default=None, description="Another way to authorise requests than a `token`.")
    headers: dict[HeaderName, str] = Field(default={}, description="Headers that every request to it needs.")
    tls: OwnTls = None
    profile: Annotated[str, AfterValidator(_profile)] = Field(
        default="generic", description="What kind of EHR it is, which says what it takes."
    )
    capabilities: str | None = Field(
        default=None,
        min_length=1,
        description="A file with the server's own CapabilityStatement, which then says what it takes.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "ServerSpec":
        if self.token is not None and self.auth is not None:
            raise ValueError("token is short for auth: {bearer: {token: …}}; keep one of the two")
        return self

    def build_source(self, name: str, tools: "Tools", *, timeout: float) -> "FhirSource":
        """Build what reads from the server called ``name``; raise `ConfigError` where its keys cannot be used."""
        from dispatch.fhir_server import find_server  # noqa: PLC0415 - brings along what settings alone do not need
        from dispatch.fhir_source import ServerSource  # noqa: PLC0415

        return ServerSource(find_server(tools, name), timeout=timeout)
