r"""This module resolves HL7 escape sequences (``\F\``, ``\X0D\``, ``\.br\``), and writes them.

Those that it does not know it keeps.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from broker.wire.header import Separators

# Formatting, highlighting, other character sets and local escapes are recognised in order to be left alone: in
# \H\T\N\ the T in the middle is text. A backslash that begins nothing of this kind is text as well.
_SEQUENCE: Final = (
    r"{0}(?:([FSTREP])|X((?:[0-9A-Fa-f]{{2}})+)|(\.br|\.BR)"
    r"|[HN]|\.(?:sp|in|ti|sk|fi|nf|ce)[+-]?\d*|C[0-9A-Fa-f]{{4}}|M[0-9A-Fa-f]{{4,6}}|Z[^{0}]*){0}"
)


def unescape(text: str, separators: Separators, encoding: str = "utf-8") -> str:
    r"""Return text with its escape sequences resolved; sequences that stand for no character stay as they are.

    ``\.br\`` becomes a newline. The bytes of ``\X..\`` are read in ``encoding``, or as ISO 8859/1 where they are not
    that (HL7 v2.5.1, 2.7).
    """
    return _resolver(separators, encoding)(text)


@lru_cache(maxsize=256)
def _resolver(separators: Separators, encoding: str) -> Callable[[str], str]:
    pattern = re.compile(_SEQUENCE.format(re.escape(separators.escape)))
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

    return lambda text: pattern.sub(replaced, text)


def _characters(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("iso8859-1")


def escape(text: str, separators: Separators = Separators(), *, formatted: bool = False) -> str:  # noqa: B008 - immutable
    r"""Return text as a value of a message with these separators; ``formatted`` writes line ends as ``\.br\`` (FT, TX).

    Control characters become ``\X..\``, which keeps segments and frames whole. A separator that cannot be escaped,
    because the message defines no escape character, becomes a blank.
    """
    return text.translate((_formatted if formatted else _escapes)(separators))


@lru_cache(maxsize=64)
def _escapes(separators: Separators) -> dict[int, str]:
    mark = separators.escape
    letters = zip(separators, "FSRETP", strict=True)
    controls = [*range(0x20), 0x7F]
    table = {code: f"{mark}X{code:02X}{mark}" if mark else " " for code in controls}
    return table | {ord(each): f"{mark}{letter}{mark}" if mark else " " for each, letter in letters if each}


@lru_cache(maxsize=64)
def _formatted(separators: Separators) -> dict[int, str]:
    mark = separators.escape
    return _escapes(separators) | ({ord("\n"): f"{mark}.br{mark}"} if mark else {})
