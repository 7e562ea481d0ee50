"""This module declares the mailboxes under ``mailboxes:`` in handoff.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from broker.spec import Endpoint, Spec
from broker.tls import OwnTls
from config.secrets import Secret


class MailboxSpec(Spec):
    """An account on an IMAP server that mail is taken from: IMAP4rev1, RFC 3501."""

    endpoint: Endpoint = Field(description="Where the server listens, such as imap.example.org:993.")
    tls: Literal["implicit", "starttls"] = Field(
        default="implicit", description="How TLS begins: at once (implicit, as on port 993), or starttls (port 143)."
    )
    plain: str = Field(
        default="", description="Why the connection needs no TLS, such as `server on this machine`; without it, TLS."
    )
    certificates: OwnTls = None
    account: str = Field(min_length=1, description="The account's name.")
    password: Secret = Field(description="Its password, as a reference: ${env:NAME}.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.plain and self.certificates is not None:
            raise ValueError("without TLS nobody would look at the certificates; remove `plain` or `certificates`")
        return self
