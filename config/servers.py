"""This module declares the FHIR servers of handoff.yaml: where each is, and how requests to it are authorised."""

from pydantic import Field, model_validator

from broker.spec import Spec
from config.address import Address
from config.auth import AuthSpec
from config.secrets import Secret


class ServerSpec(Spec):
    """A FHIR R4 server."""

    base: Address = Field(description="Base address, such as https://ehr.example/R4; ${sandbox}/fhir is our own.")
    token: Secret | None = Field(
        default=None, description="A bearer token, as a reference: ${env:NAME} or ${file:/path}."
    )
    auth: AuthSpec | None = Field(default=None, description="Another way to authorise requests than a `token`.")

    @model_validator(mode="after")
    def _one_way(self) -> "ServerSpec":
        if self.token is not None and self.auth is not None:
            raise ValueError("token is short for auth: {bearer: {token: …}}; keep one of the two")
        return self
