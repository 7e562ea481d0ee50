"""This module declares the mail servers under ``mail_servers:`` in handoff.yaml."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from broker.spec import Endpoint, Spec
from config.secrets import Secret
from dispatch.mail.address import Mailbox, read_mailbox


def _mailbox(value: str) -> str:
    if read_mailbox(value) is None:
        raise ValueError("needs an address such as clinic@example.org, or Clinic <clinic@example.org>")
    return value


class MailServerSpec(Spec):
    """A mail server that takes what we send: SMTP submission, RFC 6409."""

    endpoint: Endpoint = Field(description="Where it listens, such as smtp.example.org:587.")
    tls: Literal["starttls", "implicit"] = Field(
        default="starttls", description="How TLS begins: starttls (as on port 587), or at once (implicit, port 465)."
    )
    plain: str = Field(
        default="", description="Why the connection needs no TLS, such as `relay on this machine`; without it, TLS."
    )
    account: str = Field(default="", description="The account's name, where the server wants one.")
    password: Secret | None = Field(default=None, description="Its password, as a reference: ${env:NAME}.")
    sender: Annotated[str, AfterValidator(_mailbox)] = Field(
        alias="from", description="Who mail comes from: clinic@example.org, or Clinic <clinic@example.org>."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if bool(self.account) is not (self.password is not None):
            raise ValueError("it needs `account` and `password`, or neither")
        return self

    @property
    def mailbox(self) -> Mailbox:
        """Return who mail comes from."""
        found = read_mailbox(self.sender)
        assert found is not None  # noqa: S101 - it was validated
        return found
