"""This module is the formats of JSON: whole documents, FHIR resources, and lines of it (NDJSON)."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, BinaryIO, ClassVar, Final, Literal, NoReturn

from pydantic import Field

from broker.errors import MessageError
from broker.fhir.check import read_resource
from broker.formats.reading import Format, Index, Piece, Reading
from broker.formats.rows import Origin, Packing, located, unpack
from broker.formats.table import line_pieces, read_row
from broker.message import Document, Inbound
from broker.spec import Bytes, FormatSpec
from broker.wire.charset import Charset
from broker.wire.strict_json import read_json
from broker.wire.text_lines import SAMPLE, codec_for, is_blank, read_lines, refuse_foreign

_LARGEST: Final = 16 * 1024**2


# The types that expressions can begin with, as in FHIRPath: Patient.name[0].family. One that the resource is not of is
# None. Any type is there as `resource`.
_TYPES: Final = (
    "AllergyIntolerance", "Appointment", "Bundle", "CarePlan", "CareTeam", "Communication", "Composition", "Condition",
    "Consent", "Coverage", "Device", "DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "Flag",
    "Goal", "Group", "Immunization", "List", "Location", "Medication", "MedicationAdministration", "MedicationDispense",
    "MedicationRequest", "MedicationStatement", "MessageHeader", "Observation", "Organization", "Patient", "Person",
    "Practitioner", "PractitionerRole", "Procedure", "QuestionnaireResponse", "RelatedPerson", "Schedule",
    "ServiceRequest", "Slot", "Specimen", "Task",
)  # fmt: skip


class Tree(dict[str, Any]):
    """A JSON object: an expression that asks it for a name which it has not gets None, for such are left out."""

    __slots__ = ()


class Items(list[Any]):
    """A JSON array: an expression that asks it for an item behind its last gets None."""

    __slots__ = ()


class JsonSpec(FormatSpec):
    """JSON; each file is one message, `message` in expressions."""

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - JSON is UTF-8
        """Build the format."""
        return Json()


class FhirSpec(FormatSpec):
    """FHIR R4 resources in JSON; each file is one message: `resource`, or its type (`Patient.id`) in expressions."""

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - JSON is UTF-8
        """Build the format."""
        return Json(fhir=True)


class NdjsonSpec(FormatSpec):
    """JSON objects, one a line; each line of a file is a message."""

    holds: Literal["json", "fhir"] = Field(
        default="json", description="What the lines are: any objects (`message` in expressions), or FHIR resources."
    )
    blank: Literal["refuse", "skip"] = Field(default="refuse", description="What a blank line is: an error, or none.")
    max_row: Bytes = Field(default=1024**2, ge=1024, le=_LARGEST, description="Most characters of a line.")

    def build(self, charset: Charset | None) -> Format:  # noqa: ARG002 - JSON is UTF-8
        """Build the format."""
        return Ndjson(self)


class Json:
    """JSON documents and FHIR resources; see `broker.formats.reading.Format`."""

    def __init__(self, *, fhir: bool = False) -> None:
        self.kind = "fhir" if fhir else "json"
        self.names: Mapping[str, Any] = dict.fromkeys(("resource", *_TYPES) if fhir else ("message",))

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps the document, by its resource type where it has one."""
        document = self.document(inbound.body, 0.0)
        message = document.message
        return Reading(
            _type(message) or self.kind, (b"file", inbound.key) if inbound.key else (), _id(message), index(document)
        )

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over what the JSON holds; raise `MessageError` where it is none."""
        if self.kind == "fhir":
            resource = read_resource(body)
            values = self.values(planted(resource), Origin())
            return Document(message=resource, received_at=received_at, values=values, body=body)
        message = read_tree(body, Origin())
        values = self.values(message, Origin())
        return Document(message=message, received_at=received_at, values=values, body=body)

    def values(self, message: Any, origin: Origin) -> dict[str, Any]:
        """Return the names that expressions have for a message; raise `MessageError` for what is no FHIR resource."""
        if self.kind == "json":
            return {"message": message}
        kind = _type(message)
        if not kind:
            raise located("a FHIR resource is an object with a resourceType; found another", origin)
        return {**dict.fromkeys(_TYPES), "resource": message, kind: message}

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:  # noqa: ARG002 - one file is one message
        """Yield the one message of a file."""
        body = file.read(_LARGEST + 1)
        refuse_foreign(body[:SAMPLE])
        if len(body) > _LARGEST:
            yield Piece(body=body[:SAMPLE], line=1, reason=f"the file has more than {_LARGEST} bytes")
        else:
            yield Piece(body=body, line=1)


class Ndjson:
    """Lines of JSON; see `broker.formats.reading.Format`."""

    kind: Final = "ndjson"
    _PLACE: ClassVar[Mapping[str, Any]] = {"file": str, "line": int}

    def __init__(self, spec: NdjsonSpec) -> None:
        self._spec = spec
        self._one = Json(fhir=spec.holds == "fhir")
        self.names: Mapping[str, Any] = {**self._one.names, **self._PLACE}

    def read(self, inbound: Inbound, index: Index) -> Reading:
        """Return what keeps the line."""
        return read_row(self, inbound, index)

    def document(self, body: bytes, received_at: float) -> Document:
        """Return the document over a line; raise `MessageError` with its number where it cannot be read."""
        origin, data = unpack(body)
        message = read_tree(data, origin)
        place = {"file": origin.file, "line": origin.line}
        values = self._one.values(message, origin) | place
        return Document(message=message, received_at=received_at, values=values, body=body)

    def split(self, file: BinaryIO, name: str) -> Iterator[Piece]:
        """Yield the lines of a file; raise `MessageError` where it has none, or is no such file."""
        head = file.read(SAMPLE)
        refuse_foreign(head)
        codec, mark = codec_for(head, "utf-8")
        file.seek(mark)
        skips = self._spec.blank == "skip"
        numbered = enumerate(read_lines(file, codec, self._spec.max_row), 1)
        rows = ((number, line) for number, line in numbered if not skips or not is_blank(line.text))
        yield from line_pieces(rows, Packing(name, codec, {}), "line")


def _type(message: Any) -> str:
    """Return the type of a FHIR resource; "" for what has none, or has something else in its place."""
    kind = message.get("resourceType") if isinstance(message, dict) else None
    return kind if isinstance(kind, str) and kind.isalpha() else ""


def _id(message: Any) -> str:
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str) else ""


def read_tree(body: bytes, origin: Origin) -> Any:
    """Return what JSON holds, its objects as `Tree`; raise `MessageError` with the place where it is none."""
    try:
        text = body.decode(origin.codec or "utf-8-sig")
        return _items(json.loads(text, object_pairs_hook=_tree, parse_constant=_no_constant, parse_float=Decimal))
    except json.JSONDecodeError as error:
        column = f"column {error.colno}"
        whole = f"line {origin.line or error.lineno}, {column}"
        text = f"no JSON at {column if origin.line else whole}: {error.msg[:1].lower()}{error.msg[1:]}"
        raise located(text, origin, whole) from None
    except UnicodeError as error:
        text = f"the byte at offset {getattr(error, 'start', 0)} is not UTF-8; JSON must be that (RFC 8259)"
        raise located(text, origin, _place_in(body, origin)) from None
    except RecursionError:
        raise located("the JSON is nested too deeply", origin, _place_in(body, origin)) from None
    except (ValueError, ArithmeticError) as error:
        told = str(error) if type(error) is _Refused else "a number has too many digits"
        raise located(told, origin, _place_in(body, origin)) from None


def _place_in(body: bytes, origin: Origin) -> str:
    """Return line and column of what is no JSON, as the strict reader tells them."""
    place = ""
    try:
        read_json(body, largest=len(body))
    except MessageError as error:
        place = error.location
    return f"line {origin.line}{place.removeprefix('line 1')}" if origin.line else place


def planted(value: Any) -> Any:
    """Return a value of strict JSON with its objects as `Tree` and its arrays as `Items`."""
    if type(value) is dict:
        # Most values are texts: not to call for them halves the time.
        return Tree([(name, item if type(item) is str else planted(item)) for name, item in value.items()])
    return Items(map(planted, value)) if type(value) is list else value


class _Refused(ValueError):
    """JSON that one reader would take otherwise than the next."""


def _tree(pairs: list[tuple[str, Any]]) -> Tree:
    tree = Tree((name, _items(value)) for name, value in pairs)
    if len(tree) != len(pairs):
        raise _Refused("a name is there twice in one JSON object")
    return tree


def _items(value: Any) -> Any:
    return Items(_items(item) for item in value) if type(value) is list else value


def _no_constant(_text: str) -> NoReturn:
    raise _Refused("NaN and Infinity are no JSON numbers")
