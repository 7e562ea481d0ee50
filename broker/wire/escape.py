r"""This module resolves and writes HL7 escape sequences (``\F\``, ``\X0D\``, ``\.br\``).

Reading keeps what it does not know, so no text is lost; what is written reads back as the same text.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from broker.wire import iso2022
from broker.wire.header import Separators

# Formatting, highlighting, other character sets and local escapes are recognised in order to be left alone: in
# \H\T\N\ the T in the middle is text. A backslash that begins nothing of this kind is text as well.
_SEQUENCE: Final = (
    r"{0}(?:([FSTREP])|X((?:[0-9A-Fa-f]{{2}})+)|(\.br|\.BR)"
    r"|[HN]|\.(?:sp|in|ti|sk|fi|nf|ce)[+-]?\d*|C[0-9A-Fa-f]{{4}}|M[0-9A-Fa-f]{{4,6}}|Z[^{0}]*){0}"
)
# \M2442\ … \C2842\: characters of a two-byte set (ISO 2022), to the sequence that leads back to ASCII.
_TWO_BYTES: Final = r"{0}M((?:24)[0-9A-Fa-f]{{2,4}}){0}([ -~]+?)(?:{0}C284[2Aa]{0}|\Z)"
_WIDE: Final = ("utf-16", "utf-32")
_USUAL: Final = Separators()


def unescape(text: str, separators: Separators, encoding: str = "utf-8") -> str:
    r"""Return text with its escape sequences resolved; sequences that stand for no character stay as they are.

    ``\.br\`` becomes a newline. The bytes of ``\X..\`` are read in ``encoding``, or as ISO 8859/1 where they are not
    that (HL7 v2.5.1, 2.7).
    """
    return _resolver(separators, encoding)(text)


def escape(text: str, separators: Separators = _USUAL, *, formatted: bool = False) -> str:
    r"""Return text as it is written in a message: separators and control characters, line ends too, as sequences.

    ``formatted`` writes line ends as ``\.br\`` (FT, TX). Raises ValueError where the text needs a sequence and the
    message defines no escape character.
    """
    written = text.translate(_sequences(separators, formatted))
    if not separators.escape and written != text:
        raise ValueError("the value holds a separator or a line end, and MSH-2 of the message has no escape character")
    return written


@lru_cache(maxsize=256)
def _sequences(separators: Separators, formatted: bool) -> dict[int, str]:  # noqa: FBT001 - one of two tables
    mark = separators.escape
    table = {code: f"X{code:02X}" for code in range(0x20) if code != ord("\t")}
    table |= {ord(each): letter for each, letter in zip(separators, "FSRETP", strict=True) if each}
    if formatted:
        table[ord("\n")] = ".br"
    return {code: f"{mark}{name}{mark}" for code, name in table.items()}


@lru_cache(maxsize=256)
def _resolver(separators: Separators, encoding: str) -> Callable[[str], str]:
    mark = re.escape(separators.escape)
    pattern, two_bytes = re.compile(_SEQUENCE.format(mark)), re.compile(_TWO_BYTES.format(mark))
    letters = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        "P": separators.truncation,
    }

    def replaced(found: re.Match[str]) -> str:
        letter, digits, line_break = found.groups()
        if letter:
            return letters[letter] or found[0]
        if digits:
            return _characters(bytes.fromhex(digits), encoding)
        return "\n" if line_break else found[0]

    def resolved(text: str) -> str:
        if f"{separators.escape}M24" in text:
            text = two_bytes.sub(_switched, text)
        return pattern.sub(replaced, text)

    return resolved


def _switched(found: re.Match[str]) -> str:
    try:
        return iso2022.decode(b"\x1b" + bytes.fromhex(found[1]) + found[2].encode("ascii"), "ascii")
    except ValueError:
        return found[0]


def _characters(data: bytes, encoding: str) -> str:
    if b"\0" in data and not len(data) % 2:
        encoding = "utf-16-be"  # \X000D\: some write the code point in four digits, and NUL is no part of a value
    elif encoding.startswith(_WIDE):
        encoding = "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("iso8859-1")
