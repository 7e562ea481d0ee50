"""This module holds the base of every Spec: the one declaration that validates, documents and builds a part."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from broker.hosts import HOST

if TYPE_CHECKING:
    from broker.formats.reading import Format
    from broker.parts import Destination, Listener, Renderer, Tools, Transform
    from broker.wire.charset import Charset

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _with_unit(units: dict[str, Any], example: str) -> Any:
    def read(value: object) -> object:
        if isinstance(value, str):
            number = value.rstrip("".join({c for unit in units for c in unit}))
            unit = value[len(number) :]
            try:
                return float(number) * units[unit]
            except (KeyError, ValueError):
                text = f"needs a number with a unit ({', '.join(units)}), such as {example}"
                raise ValueError(text) from None
        if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
            text = f"needs a unit ({', '.join(units)}), such as {example}"
            raise ValueError(text)
        return value

    return read


def _for_editors(units: dict[str, Any]) -> WithJsonSchema:
    number = r"^[0-9]+(\.[0-9]+)?"
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"{number}({'|'.join(units)})$"}, {"const": 0}]})


Seconds = Annotated[float, BeforeValidator(_with_unit(_SECONDS, "5s")), Field(ge=0), _for_editors(_SECONDS)]
Bytes = Annotated[
    int,
    BeforeValidator(lambda value: _whole(_with_unit(_BYTES, "16MiB")(value))),
    Field(ge=0),
    _for_editors(_BYTES),
]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) else value


_HOST = re.compile(rf"{HOST}|[0-9A-Fa-f:.]+")  # also an address of IPv6 without brackets

# What these headers say is the transport's own business: whoever writes them has a request read otherwise than it was
# meant, or by another host (RFC 9110, 7.2 and 8.6; RFC 9112, 6).
RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"}
)


def _endpoint(value: object) -> object:
    host, _, port = str(value).rpartition(":")
    if not _HOST.fullmatch(host) or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest TCP port
        text = "needs host:port, such as 127.0.0.1:2575"
        raise ValueError(text)
    return value


Endpoint = Annotated[str, BeforeValidator(_endpoint), WithJsonSchema({"type": "string", "pattern": r"^.+:[0-9]{1,5}$"})]


class Expression(str):
    """An expression: a bare HL7 location (``PID-3[5=MR].1``) or Jinja's expression language over the document."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Let pydantic take any string for an expression; `config.check` compiles it to find mistakes."""
        from pydantic_core import core_schema  # noqa: PLC0415 - only needed while a Spec class is made

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class Template(str):
    """A literal with ``{{ }}`` holes, or the path of a ``.j2`` file below the channels folder."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Let pydantic take any string for a template; `config.check` compiles it to find mistakes."""
        from pydantic_core import core_schema  # noqa: PLC0415 - only needed while a Spec class is made

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


Escape = Annotated[
    Literal["text", "json", "hl7"],
    Field(
        description="How values are put into a template: as `text` they stay as they are; `json` and `hl7` keep them "
        "from breaking out of their place."
    ),
]


class Spec(BaseModel):
    """The base of every declaration: closed, frozen, every field described."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # For a part that is written as one bare value (``filter: <expression>``): the field which that value fills.
    short_form: ClassVar[str] = ""


class FormatSpec(Spec):
    """What an analyst writes under ``format:``."""

    def build(self, charset: "Charset | None") -> "Format":
        """Build the format; ``charset`` is what the listener says of character sets, where that says anything."""
        raise NotImplementedError


class ListenerSpec(Spec):
    """What an analyst writes under ``listen:``."""

    # The formats that it can take in; empty means any.
    formats: ClassVar[frozenset[str]] = frozenset()

    def usable_formats(self) -> frozenset[str]:
        """Return the formats that it can take in as it is declared; empty means any."""
        return self.formats

    def build(self, tools: "Tools") -> "Listener":
        """Build the listener."""
        raise NotImplementedError


class StepSpec(Spec):
    """What an analyst writes as one item of ``steps:``."""

    # Whether it looks at a whole message, also where that is about several patients and each goes on by itself.
    of_whole: ClassVar[bool] = False

    def build(self, kit: Any) -> "Transform":
        """Build the step; ``kit`` is a `transforms.kit.Kit` (compilers for expressions, templates and scripts)."""
        raise NotImplementedError


class DestinationSpec(Spec):
    """What an analyst writes under one name in ``deliver:``."""

    # Deliveries handed to one `send`; 1 means one at a time.
    batch: ClassVar[int] = 1
    # What happens by default when nobody knows whether it took effect: retry (the other side can tell) or hold.
    unknown: ClassVar[str] = "retry"
    # Whether what it takes leaves us for somebody else, and so belongs into an accounting of disclosures.
    discloses: ClassVar[bool] = True
    # By which medium it reaches people, as consent names it (sms, email); empty: any may be behind it; None: nobody.
    medium: ClassVar[str | None] = None

    def unknown_policy(self) -> str:
        """Return what happens by default when nobody knows whether a delivery took effect: ``retry`` or ``hold``."""
        return self.unknown

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half, in the engine."""
        raise NotImplementedError

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half, in a worker process; ``kit`` as in `StepSpec.build`."""
        raise NotImplementedError
