"""This module declares the mailboxes under ``mailboxes:`` in handoff.yaml."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from pydantic import Field, model_validator

from broker.spec import Endpoint, Spec
from broker.tls import OwnTls
from config.auth import AuthSpec
from config.secrets import Secret

if TYPE_CHECKING:
    from broker.tokens import Tokens

_TOKENS: Final = ("bearer", "client_credentials", "jwt_bearer", "refresh_token")


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
    password: Secret | None = Field(default=None, description="Its password, as a reference: ${env:NAME}.")
    auth: AuthSpec | None = Field(
        default=None,
        description="Instead of a password, an access token (XOAUTH2 or OAUTHBEARER): `client_credentials`, "
        "`jwt_bearer`, `refresh_token` or `bearer`.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.plain and self.certificates is not None:
            raise ValueError("without TLS nobody would look at the certificates; remove `plain` or `certificates`")
        if (self.password is None) == (self.auth is None):
            raise ValueError("needs exactly one of `password` and `auth`")
        if self.auth is not None and not any(getattr(self.auth, way) for way in _TOKENS):
            raise ValueError(f"`auth` needs a way that gives a token: one of {', '.join(_TOKENS)}")
        return self

    def build_tokens(self, name: str, data: Path) -> "Tokens | None":
        """Build what fetches the tokens for it, where there is no password; raise `ConfigError` when a key is wrong."""
        if self.auth is None:
            return None
        from dispatch.mail.tokens import MailboxTokens  # noqa: PLC0415 - brings along what settings do not need

        return MailboxTokens(self.auth, name, data)
