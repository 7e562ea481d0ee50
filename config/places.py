"""This module declares what of handoff.yaml names places: where files go, and databases, each with its credentials."""

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from broker.spec import Spec
from config.address import Address
from config.secrets import Secret

_HOST_KEY: Final = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9]+) [A-Za-z0-9+/]+=*( .*)?")
_BUCKET: Final = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"


def _url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or not rest or not re.fullmatch(r"[a-z][a-z0-9]*(\+[a-z][a-z0-9]*)?", scheme):
        raise ValueError("needs a URL of SQLAlchemy, such as postgresql://user@host/database or sqlite:///path/file.db")
    return value


class SftpPlaceSpec(Spec):
    """An SFTP server: who it is, and who we are there."""

    host: str = Field(min_length=1, description="Host name or address.")
    port: int = Field(default=22, ge=1, le=65535, description="Port.")
    user: str = Field(min_length=1, description="The user to log in as.")
    password: Secret | None = Field(default=None, description="The user's password, as a reference.")
    private_key: Secret | None = Field(
        default=None, description="The user's private key in PEM or OpenSSH form, as a reference such as ${file:/path}."
    )
    passphrase: Secret | None = Field(default=None, description="What the private key is locked with, as a reference.")
    known_hosts: str | None = Field(
        default=None, min_length=1, description="File with the server's host key, as ssh-keyscan writes it."
    )
    host_key: str | None = Field(
        default=None, description="Instead of a file: the server's host key, such as ssh-ed25519 AAAA…"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.known_hosts is None) == (self.host_key is None):
            raise ValueError("needs the server's host key, else anybody could be it; give `host_key` or `known_hosts`")
        if self.password is None and self.private_key is None:
            raise ValueError("needs a way to log in; give `password` or `private_key`")
        if self.host_key is not None and not _HOST_KEY.fullmatch(self.host_key.strip()):
            raise ValueError("`host_key` is a type and a key, such as ssh-ed25519 AAAAC3Nz…; take it from ssh-keyscan")
        return self


class S3PlaceSpec(Spec):
    """A bucket of an S3-compatible store."""

    base: Address = Field(description="Address of the store, such as https://s3.eu-central-1.amazonaws.com.")
    bucket: str = Field(pattern=_BUCKET, description="The bucket.")
    region: str = Field(default="us-east-1", min_length=1, description="The region that signatures name.")
    access_key: str = Field(min_length=1, description="The access key's id.")
    secret: Secret = Field(description="The access key's secret, as a reference.")
    session_token: Secret | None = Field(default=None, description="The token of a temporary access key, if it is one.")
    style: str = Field(
        default="path",
        pattern="^(path|host)$",
        description="Where the bucket stands in the address: `path`, or `host` as AWS wants it of new buckets.",
    )


class PlaceSpec(Spec):
    """Where files go: exactly one kind of place."""

    sftp: SftpPlaceSpec | None = Field(default=None, description="An SFTP server.")
    s3: S3PlaceSpec | None = Field(default=None, description="A bucket of an S3-compatible store.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.sftp is None) == (self.s3 is None):
            raise ValueError("needs exactly one kind of place: sftp or s3")
        return self


class DatabaseSpec(Spec):
    """A database of somebody else, that channels write to or read from."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="URL of SQLAlchemy without the password, such as postgresql://user@host/database."
    )
    password: Secret | None = Field(default=None, description="The user's password, as a reference.")
