"""This module is the one door through which XML comes in: no DTD, no entities, nothing from elsewhere, all bounded."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from broker.errors import MessageError

LARGEST: Final = 16 * 1024 * 1024
DEEPEST: Final = 100
MOST_ELEMENTS: Final = 100_000
MOST_ATTRIBUTES: Final = 100  # of one element
MOST_PREFIXES: Final = 100  # in force at one element

_PIECE: Final = 64 * 1024


class _TooMuch(Exception):
    """A bound was passed; says which."""


# The namespaces that elements declare, by prefix; "" is the default namespace.
Declared = dict[Element, dict[str, str]]


class _Bounded(TreeBuilder):
    """Builds the tree as long as it stays within bounds."""

    def __init__(self, deepest: int, declared: Declared | None) -> None:
        super().__init__()
        self._deepest = deepest
        self._declared = declared
        self._prefixes: dict[str, str] = {}
        self._in_force = 0
        self._depth = 0
        self._count = 0

    def start(self, tag: Any, attrs: Mapping[Any, Any], /) -> Element:
        self._depth += 1
        self._count += 1
        if self._depth > self._deepest:
            raise _TooMuch(f"nested deeper than {self._deepest} elements")
        if self._count > MOST_ELEMENTS:
            raise _TooMuch(f"more than {MOST_ELEMENTS} elements")
        if len(attrs) > MOST_ATTRIBUTES:
            raise _TooMuch(f"an element with more than {MOST_ATTRIBUTES} attributes")
        element = super().start(tag, attrs)  # type: ignore[arg-type]
        if self._prefixes and self._declared is not None:
            self._declared[element] = self._prefixes
        self._prefixes = {}
        return element

    def start_ns(self, prefix: str | None, uri: str | None) -> None:
        self._prefixes[prefix or ""] = uri or ""  # of the element that begins next
        self._in_force += 1
        if self._in_force > MOST_PREFIXES:
            raise _TooMuch(f"more than {MOST_PREFIXES} namespaces in force at one element")

    def end_ns(self, _prefix: str | None) -> None:
        self._in_force -= 1

    def end(self, tag: Any, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def read_xml(
    data: bytes,
    *,
    largest: int = LARGEST,
    deepest: int = DEEPEST,
    encoding: str | None = None,
    declared: Declared | None = None,
) -> Element:
    """Return the root of an XML document; comments and processing instructions are passed over.

    ``encoding`` overrules what the document says of its own (RFC 7303). ``declared`` is filled with the prefixes, which
    the tree itself does not keep.

    Raises `MessageError` with line and column, and nothing of the content, for what is not well-formed, has a document
    type or entities, or is larger (bytes) or deeper than allowed.
    """
    if len(data) > largest:
        raise MessageError(f"the XML has {len(data)} bytes, and {largest} are allowed; send it in parts")
    if data.count(b"<") > 2 * MOST_ELEMENTS:  # building what can be seen to be too much would take seconds
        raise MessageError(f"the XML has more than {2 * MOST_ELEMENTS} tags; send it in parts")
    target = _Bounded(deepest, declared)
    parser = DefusedXMLParser(
        target=target, encoding=encoding, forbid_dtd=True, forbid_entities=True, forbid_external=True
    )
    try:
        for start in range(0, len(data), _PIECE):  # so that a bound stops it early
            parser.feed(data[start : start + _PIECE])
        root: Element = parser.close()
    except ParseError as error:
        line, column = error.position
        _fail(line, column + 1, expat.ErrorString(error.code) or "not well-formed")
    except _TooMuch as error:
        _fail(*_reached(parser), str(error))
    except DefusedXmlException:
        _fail(*_reached(parser), "a document type or entity, which is never taken; leave it out")
    except (LookupError, ValueError):  # an encoding that nobody knows
        _fail(1, 1, "an encoding that cannot be read; send UTF-8")
    return root


def _reached(parser: Any) -> tuple[int, int]:
    return parser.parser.CurrentLineNumber, parser.parser.CurrentColumnNumber + 1


def _fail(line: int, column: int, what: str) -> NoReturn:
    place = f"line {line}, column {column}"
    raise MessageError(f"not usable XML: {place}: {what}", location=place) from None
