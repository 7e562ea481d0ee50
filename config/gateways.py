"""This module declares the gateways for texts under ``gateways:`` in handoff.yaml, by kind, and builds them."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from broker.errors import ConfigError
from broker.spec import Endpoint, Seconds, Spec
from broker.tls import OwnTls, Tls, TlsSpec, build_tls
from broker.wire.smpp import bind
from config.address import Address
from config.secrets import Secret
from dispatch.texts.gateway import Gateway, HttpGateway
from dispatch.texts.generic import HEADER_HOLES, HOLES, Generic, Rule, Verdict, holes
from dispatch.texts.twilio import Twilio
from dispatch.texts.vonage_messages import VonageMessages
from dispatch.texts.vonage_sms import VonageSms

if TYPE_CHECKING:
    from broker.parts import Tools

_PATH: Final = r"^(/([^\s?#{}]|\{\{ *[a-z]+ *\}\})*)?$"  # holes included
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 5.6.2


class PriceSpec(Spec):
    """What one short message costs, for an estimate."""

    segment: Decimal = Field(ge=0, description="Price of one short message, such as 0.0079.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="Three letters, such as USD.")


class GatewaySpec(Spec):
    """What all gateways have in common."""

    price: PriceSpec | None = Field(
        default=None, description="What one short message costs; the metric of what was sent then has an estimate."
    )
    replies: str = Field(
        default="", description="The channel that takes replies and opt-outs: one that has `listen: {texts: {}}`."
    )

    tls: OwnTls = None

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:
        """Build the gateway; ``timeout`` in seconds, ``limit`` texts at a time. Raises `ConfigError`."""
        raise NotImplementedError

    def build_tls(self, name: str, tools: "Tools") -> Tls | None:
        """Build what ``tls`` says; raise `ConfigError` when a file cannot be used."""
        return build_tls(self.tls, tools, f"handoff.yaml, gateways.{name}.tls")


class TwilioSpec(GatewaySpec):
    """A gateway that speaks Twilio's Messages API; so does our sandbox."""

    kind: Literal["twilio"] = Field(default="twilio", description="Twilio's Messages API, the default.")
    base: Address = Field(description="Address, such as https://api.twilio.com; ${sandbox} is our own.")
    account: str = Field(min_length=1, description="The account's id.")
    token: Secret = Field(description="The account's token, as a reference: ${env:NAME} or ${file:/path}.")
    sender: str = Field(
        alias="from", min_length=1, description="The number, or Messaging Service, that texts come from."
    )
    callback: Address | None = Field(default=None, description="Where the gateway reports what became of a text.")

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:
        """Build the gateway."""
        api = Twilio(name, self.base, self.account, self.token, self.sender, self.callback or "")
        return HttpGateway(name, api, timeout=timeout, limit=limit, tls=self.build_tls(name, tools))


class VonageSmsSpec(GatewaySpec):
    """Vonage's SMS API."""

    kind: Literal["vonage-sms"] = Field(description="Vonage's SMS API.")
    base: Address = Field(default="https://rest.nexmo.com", description="Address.")
    account: str = Field(min_length=1, description="The account's API key.")
    secret: Secret = Field(description="The account's API secret, as a reference: ${env:NAME} or ${file:/path}.")
    sender: str = Field(alias="from", min_length=1, description="The number or name that texts come from.")
    callback: Address | None = Field(default=None, description="Where the gateway reports what became of a text.")

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:
        """Build the gateway."""
        api = VonageSms(name, self.base, self.account, self.secret, self.sender, self.callback or "")
        return HttpGateway(name, api, timeout=timeout, limit=limit, tls=self.build_tls(name, tools))


class VonageMessagesSpec(GatewaySpec):
    """Vonage's Messages API."""

    kind: Literal["vonage-messages"] = Field(description="Vonage's Messages API.")
    base: Address = Field(
        default="https://api.nexmo.com",
        description="Address; https://api-eu.nexmo.com and https://api-us.nexmo.com are regional.",
    )
    application: str = Field(default="", description="Id of the application whose `private_key` signs tokens.")
    private_key: Secret | None = Field(
        default=None, description="The application's private key (PEM), as a reference: ${file:/path} or ${env:NAME}."
    )
    account: str = Field(default="", description="The account's API key, instead of an application.")
    secret: Secret | None = Field(default=None, description="The account's API secret, as a reference.")
    sender: str = Field(alias="from", min_length=1, description="The number or name that texts come from.")
    callback: Address | None = Field(default=None, description="Where the gateway reports what became of a text.")

    @model_validator(mode="after")
    def _has_one_identity(self) -> Self:
        signs = (bool(self.application), self.private_key is not None)
        knows = (bool(self.account), self.secret is not None)
        if {signs, knows} != {(True, True), (False, False)}:
            raise ValueError("it needs `application` and `private_key`, or `account` and `secret`; give one pair")
        return self

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:
        """Build the gateway; raise `ConfigError` where the private key is none."""
        if self.private_key is not None:
            from dispatch.signing import read_key  # noqa: PLC0415 - brings cryptography's keys along

            read_key(self.private_key.reveal(), f"handoff.yaml, gateways.{name}.private_key", algorithm="RS256")
        api = VonageMessages(
            name=name,
            base=self.base,
            sender=self.sender,
            application=self.application,
            private_key=self.private_key,
            account=self.account,
            secret=self.secret,
            callback=self.callback or "",
        )
        return HttpGateway(name, api, timeout=timeout, limit=limit, tls=self.build_tls(name, tools))


class AnswerSpec(Spec):
    """What an answer of a gateway has to be; every condition that is given must hold."""

    status: list[int] = Field(default=[], description="The HTTP status is one of these.")
    field: str = Field(default="", description="Path of a value in a JSON answer, such as messages.0.status.")
    equals: list[str | int | bool] = Field(
        default=[], description="The value at `field` is one of these; without them, there is a value."
    )
    pattern: str | None = Field(default=None, description="A regular expression that is found in the answer's text.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return _pattern(value)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.status or self.field or self.pattern):
            raise ValueError("it says nothing of the answer; give `status`, `field` or `pattern`")
        if self.equals and not self.field:
            raise ValueError("'equals' compares the value at a path; add `field`")
        return self

    def rule(self) -> Rule:
        """Return it as the gateway takes it."""
        equals = frozenset(str(one).lower() if isinstance(one, bool) else str(one) for one in self.equals)
        pattern = re.compile(self.pattern) if self.pattern else None
        return Rule(frozenset(self.status), self.field, equals, pattern)


class ErrorSpec(AnswerSpec):
    """What follows from one kind of answer; the first that fits counts."""

    then: Literal["retry", "reject", "suppress", "unknown"] = Field(
        description="retry: nothing was sent, later may work; reject: never; suppress: the recipient has opted out; "
        "unknown: nobody can say."
    )
    reason: str = Field(default="", max_length=200, description="What an operator is told.")
    after: Seconds | None = Field(default=None, description="How long to wait at least before a retry.")

    def verdict(self) -> Verdict:
        """Return it as the gateway takes it."""
        return Verdict(self.rule(), self.then, self.reason, self.after)


class HttpSpec(GatewaySpec):
    """Any other HTTP gateway, described as data."""

    kind: Literal["http"] = Field(description="A gateway that is described here.")
    base: Address = Field(description="Address, such as https://texts.example/api.")
    method: Literal["POST", "PUT", "GET"] = Field(default="POST", description="The HTTP method.")
    path: str = Field(default="", pattern=_PATH, description="What follows the address, such as /send.")
    query: dict[str, str] = Field(default={}, description="Parameters of the address.")
    headers: dict[str, str] = Field(default={}, description="Headers, besides those that `authorization` gives.")
    content: Literal["json", "form", "xml"] = Field(default="json", description="How the body is written.")
    body: dict[str, Any] | str | None = Field(
        default=None, description="The body: keys and values, or text for xml. Holes such as {{ to }} and {{ text }}."
    )
    authorization: Literal["none", "basic", "bearer"] = Field(
        default="none", description="basic sends `account` and `secret`, bearer sends `secret`."
    )
    account: str = Field(default="", description="The account, for basic and for the hole {{ account }}.")
    secret: Secret | None = Field(
        default=None, description="The secret, as a reference: ${env:NAME} or ${file:/path}; also {{ secret }}."
    )
    sender: str = Field(default="", alias="from", description="What texts come from, for the hole {{ from }}.")
    success: AnswerSpec = Field(
        default=AnswerSpec(status=list(range(200, 300))), description="What an answer is that took the text."
    )
    reference: str = Field(default="", description="Path of the gateway's name for the text in a JSON answer.")
    reference_pattern: str | None = Field(
        default=None, description="A regular expression whose first group is the gateway's name for the text."
    )
    errors: list[ErrorSpec] = Field(default=[], description="What other answers mean; else the HTTP status decides.")

    @field_validator("reference_pattern")
    @classmethod
    def _captures(cls, value: str | None) -> str | None:
        if _pattern(value) and re.compile(str(value)).groups < 1:
            raise ValueError("needs a group, such as ^OK (\\S+)")
        return value

    @field_validator("path", "query", "body")
    @classmethod
    def _knows_holes(cls, value: Any) -> Any:
        return _known(value, HOLES)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER.fullmatch(name) or not text.isprintable():
                raise ValueError(f"needs names and values of HTTP headers; {name!r} is none")
        return {name: str(_known(text, HEADER_HOLES)) for name, text in value.items()}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = {*holes(self.path), *holes(self.query), *holes(self.headers), *holes(self.body)}
        if not ({"to", "digits"} & named and "text" in named):
            raise ValueError("it sends no {{ to }} and {{ text }}; put both into `body` or `query`")
        if isinstance(self.body, str) is not (self.content == "xml") and self.body is not None:
            raise ValueError("'body' is text for xml, and keys and values for json and form")
        if self.content == "form" and isinstance(self.body, dict) and not all(map(_is_text, self.body.values())):
            raise ValueError("'body' of a form has texts as values; put numbers in quotes")
        if (self.authorization != "none" or "secret" in named) and self.secret is None:
            raise ValueError("it needs `secret`, as a reference: ${env:NAME} or ${file:/path}")
        return self

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:
        """Build the gateway."""
        api = Generic(
            name=name,
            **{key: getattr(self, key) for key in _SAME},
            success=self.success.rule(),
            reference_pattern=re.compile(self.reference_pattern) if self.reference_pattern else None,
            errors=tuple(error.verdict() for error in self.errors),
        )
        return HttpGateway(name, api, timeout=timeout, limit=limit, tls=self.build_tls(name, tools))


_SAME: Final = (
    *("base", "method", "path", "query", "headers", "content", "body"),
    *("authorization", "account", "secret", "sender", "reference"),
)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _pattern(value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"needs a regular expression ({error})") from None
    return value


def _known(value: Any, allowed: Any) -> Any:
    unknown = next((name for name in holes(value) if name not in allowed), None)
    if unknown is not None:
        raise ValueError(f"has no value for {{{{ {unknown} }}}}; there are {', '.join(allowed)}")
    return value


def _kind(value: Any) -> str:
    return str(value.get("kind", "twilio") if isinstance(value, dict) else getattr(value, "kind", "twilio"))


class SmppSpec(GatewaySpec):
    """An SMSC over SMPP 3.4; replies and receipts come over the same bind."""

    kind: Literal["smpp"] = Field(description="An SMSC over SMPP 3.4.")
    endpoint: Endpoint = Field(description="Where the SMSC listens, such as smpp.example.org:3550.")
    account: str = Field(min_length=1, max_length=15, description="The system_id.")
    password: Secret = Field(description="The password (8 characters at most), as a reference.")
    system_type: str = Field(default="", max_length=12, description="The system_type, where the SMSC wants one.")
    sender: str = Field(
        alias="from", min_length=1, max_length=20, description="Number in E.164, short code, or name of 11 characters."
    )
    plain: str = Field(
        default="", description="Why the connection needs no TLS, such as `VPN to the carrier`; without it, TLS."
    )
    window: int = Field(default=10, ge=1, le=1000, description="Texts that may wait for the SMSC's answer.")
    enquire: Seconds = Field(default=30.0, gt=0, description="Silence after which to ask whether the SMSC is there.")
    long: Literal["udh", "payload"] = Field(
        default="udh",
        description="How long texts go: in parts (udh), or whole for the SMSC to cut (payload).",
    )
    receipts: bool = Field(default=True, description="Whether to ask for delivery receipts.")
    suppress: list[int] = Field(
        default=[], description="Values of command_status with which this SMSC says that the recipient opted out."
    )
    retry: list[int] = Field(default=[], description="Further values of command_status after which to try again.")

    @model_validator(mode="after")
    def _speaks_one_way(self) -> Self:
        if self.plain and self.tls is not None:
            raise ValueError("`plain` says why there is no TLS, and `tls` how it is spoken; leave one out")
        return self

    def build(self, name: str, tools: "Tools", *, timeout: float, limit: int) -> Gateway:  # noqa: ARG002 - see above
        """Build the gateway; raise `ConfigError` where the password does not fit."""
        from dispatch.texts.arrivals import Arrivals  # noqa: PLC0415 - only where there is such a gateway
        from dispatch.texts.smpp import SmppGateway, Ways  # noqa: PLC0415 - as above
        from dispatch.texts.smpp_link import Access  # noqa: PLC0415 - as above

        host, _, port = self.endpoint.rpartition(":")
        try:
            bind(self.account, self.password.reveal(), self.system_type)
        except ValueError as error:
            raise ConfigError(f"handoff.yaml, gateways.{name}: account or password: {error}") from None
        access = Access(
            host=host.strip("[]"),
            port=int(port),
            system_id=self.account,
            password=self.password,
            system_type=self.system_type,
            tls=None if self.plain else build_tls(self.tls or TlsSpec(), tools, f"handoff.yaml, gateways.{name}.tls"),
            window=self.window,
            enquire=self.enquire,
        )
        ways = Ways(
            sender=self.sender,
            long=self.long,
            receipts=self.receipts,
            suppress=frozenset(self.suppress),
            retry=frozenset(self.retry),
        )
        brought = Arrivals(name, self.replies, tools).brought
        return SmppGateway(name, access, ways, brought, tools.notify, timeout=timeout)


AnyGateway = Annotated[
    Annotated[TwilioSpec, Tag("twilio")]
    | Annotated[VonageSmsSpec, Tag("vonage-sms")]
    | Annotated[VonageMessagesSpec, Tag("vonage-messages")]
    | Annotated[SmppSpec, Tag("smpp")]
    | Annotated[HttpSpec, Tag("http")],
    Discriminator(_kind),
]
