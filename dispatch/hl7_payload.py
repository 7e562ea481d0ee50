"""This module makes HL7 v2 messages fit to leave us: segments ended as HL7 wants, in the set that MSH-18 names."""

from broker.errors import MessageError, StepError
from broker.wire.charset import codec_of_header
from broker.wire.er7 import Message
from broker.wire.header import read_header


def in_lines(message: Message) -> bytes:
    """Return a message without what its frame or file left around it, its segments ended by CR (HL7 v2.5.1, 2.5.4)."""
    if message.header.wide:
        return message.raw
    data = message.raw.lstrip(b"\x0b\r\n\t \0").rstrip(b"\x1c\r\n\0\x1a").replace(b"\r\n", b"\r")
    if b"\r" not in data:
        data = data.replace(b"\n", b"\r")
    return data + b"\r"


def encoded(text: str, part: str) -> bytes:
    """Return a rendered message in the character set that it names in MSH-18, or else in UTF-8.

    Raises `StepError`, which ``part`` begins, where it is no message or that set cannot say what is in it.
    """
    text = text.strip("\ufeff\x0b\x1c\r\n\t ") + "\r"
    try:
        header = read_header(text.encode("utf-8", "replace"))
        codec = codec_of_header(header.charset, header.separators.repetition) if header.charset else "utf-8"
        return text.encode(codec)
    except MessageError as error:
        raise StepError(f"{part}: {error}", location=error.location) from None
    except (UnicodeEncodeError, LookupError):  # some sets of MSH-18 can only be read
        text = f"{part}: the message cannot be written in the character set that it names; name another in MSH-18"
        raise StepError(text, location="MSH-18") from None
