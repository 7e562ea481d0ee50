"""This module writes XML: elements that were read, with the prefixes that they had, and text that stays within one."""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from broker.wire.safe_xml import Declared

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_KEPT: Final = {"\r": "&#13;", '"': "&quot;"}  # a bare CR would be read as LF (XML 1.0, 2.11)
_IN_ATTRIBUTE: Final = _KEPT | {"\n": "&#10;", "\t": "&#9;"}
_XML: Final = "http://www.w3.org/XML/1998/namespace"


def escaped(text: str) -> str:
    """Return a text so that XML gives it back as it is; what XML cannot hold becomes U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text), _KEPT)


def write_xml(element: Element, declared: Declared, inherited: Mapping[str, str]) -> bytes:
    """Return an element as a document in UTF-8, without what follows it.

    Prefixes stay what they were, because values may name them (``xsi:type``): those that the element declares itself
    and those that it is ``inherited`` from around it, by prefix.
    """
    return "".join(_written(element, declared, inherited, {})).encode()


def _written(element: Element, declared: Declared, scope: Mapping[str, str], outer: Mapping[str, str]) -> Iterator[str]:
    """Yield an element in parts; ``scope`` is what is declared up to it, and ``outer`` what is written already."""
    if element in declared:
        scope = {**scope, **declared[element]}
    name = _named(element.tag, scope)
    yield f"<{name}"
    for prefix, uri in scope.items() if scope is not outer else ():
        if outer.get(prefix, "") != uri:
            yield f' xmlns{":" if prefix else ""}{prefix}="{escape(uri, _IN_ATTRIBUTE)}"'
    for key, value in element.items():
        yield f' {_named(key, scope, attribute=True)}="{escape(value, _IN_ATTRIBUTE)}"'
    yield ">"
    yield escaped(element.text or "")
    for child in element:
        yield from _written(child, declared, scope, scope)
        yield escaped(child.tail or "")
    yield f"</{name}>"


def _named(tag: str, scope: Mapping[str, str], *, attribute: bool = False) -> str:
    """Return a name with the prefix that is declared for its namespace; an attribute without one has no namespace."""
    uri, brace, local = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
    if not brace:
        return local
    if uri == _XML:
        return f"xml:{local}"
    prefix = next(each for each, of in scope.items() if of == uri and (each or not attribute))
    return f"{prefix}:{local}" if prefix else local
