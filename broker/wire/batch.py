r"""This module splits an HL7 batch into its messages, and builds the batch of acknowledgments that answers one.

A batch is one payload, ``[FHS] {[BHS] {message} [BTS]} [FTS]`` (HL7 v2.5.1, 2.10.3); each of the four segments may be
missing, so a few messages one behind the other are a batch, too. A wrong order or a wrong count is reported as a
`Fault`, and costs no message. A message keeps every byte, from its MSH to the segment of the envelope that follows.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.errors import MessageError
from broker.wire.ack import acknowledge, refusal_code, timestamp
from broker.wire.charset import mark_of
from broker.wire.header import Header, read_header

_PUNCTUATION: Final = rb"[!-/:-@\[-`{-~]"
_ENVELOPE: Final = rb"[FB]HS(?=%b)|[BF]TS(?=%b|[\r\n]|\Z)" % (_PUNCTUATION, _PUNCTUATION)
# Between BHS and BTS a line that begins like MSH is a message, however broken.
_IN_ENVELOPE: Final = re.compile(rb"[\r\n](MSH(?=%b|[\r\n]|\Z)|%b)" % (_PUNCTUATION, _ENVELOPE))
# Elsewhere it is one only if it also names its separators: a line of text could begin like MSH.
_MSH: Final = rb"MSH(?=(%b)(?:(?!\2)%b){1,5}\2)" % (_PUNCTUATION, _PUNCTUATION)
_NEXT: Final = re.compile(rb"[\r\n](%b)" % _MSH)
_BARE: Final = re.compile(rb"[\r\n](%b|%b)" % (_MSH, _ENVELOPE))
_WIDE: Final = {
    codec: tuple(name.encode(codec) for name in ("BHS", "FHS", "BTS", "FTS"))
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
}
_BEFORE: Final = b"\x0b\r\n\t \0"
_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b"\r\n\t \0\x1a"
_DIGITS: Final = 9  # of a count; no batch is longer
_LONGEST: Final = 8192  # bytes of a message that are looked at for its header
_LOOKS: Final = 64  # places where MSH is looked at one by one

_SEQUENCE: Final = 100  # of table 0357: segment sequence error
_DATA_TYPE: Final = 102
_INTERNAL: Final = 207


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a batch itself; ``condition`` is of table 0357, ``code`` of table 0008."""

    text: str
    condition: int = _SEQUENCE
    location: str = ""
    code: str = "AE"


@dataclass(slots=True)
class Group:
    """The messages between BHS and BTS, or where there is neither; ``header`` has BHS-11 as its control id."""

    header: Header | None = None
    messages: list[bytes] = field(default_factory=list, repr=False)
    torn: set[int] = field(default_factory=set)  # numbers of messages that a segment of the envelope cut in two
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class File:
    """The groups between FHS and FTS, or where there is neither; ``header`` has FHS-11 as its control id."""

    header: Header | None = None
    groups: list[Group] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """A batch taken apart: ``strays`` are bytes that belong to no message, ``like`` is the first header to be read."""

    files: list[File] = field(default_factory=list)
    strays: list[bytes] = field(default_factory=list, repr=False)
    like: Header | None = field(default=None, repr=False)

    @property
    def groups(self) -> list[Group]:
        """All groups, in order."""
        return [group for file in self.files for group in file.groups]

    @property
    def faults(self) -> list[Fault]:
        """All faults, of groups first."""
        found = [fault for group in self.groups for fault in group.faults]
        return found + [fault for file in self.files for fault in file.faults]

    @property
    def size(self) -> int:
        """How many messages there are."""
        return sum(len(group.messages) for group in self.groups)


def is_batch(payload: bytes) -> bool:
    """Tell whether a payload begins with a segment of a batch, or holds more than one message."""
    text = _narrow(payload)
    start = _start_of(text)
    if not text.startswith(b"MSH", start):
        return _IN_ENVELOPE.match(b"\r" + text[start : start + 4]) is not None
    # MSH is rare in text, and looking for it alone is fast, also in a document of many megabytes.
    found = start
    for _ in range(_LOOKS):
        found = text.find(b"MSH", found + 3)
        if found < 0:
            return False
        if _NEXT.match(text, found - 1):
            return True
    return _NEXT.search(text, found) is not None


def is_several(payload: bytes, header: Header) -> bool:
    """Tell whether more than the message that was read stands in a payload; costs one search where none does."""
    return (payload.find(b"MSH", 3) >= 0 or bool(header.wide)) and is_batch(payload)


def read_only_header(payload: bytes) -> Header:
    """Read MSH of a payload that must hold one message, for of a second one nobody would hear again.

    Raises `MessageError` as `read_header` does, and with condition 100 for a second message.
    """
    header = read_header(payload)
    if is_several(payload, header):
        text = "MSH: another message stands behind the first, and one is expected here; send each by itself"
        raise MessageError(text, location="MSH", condition=_SEQUENCE)
    return header


def split_batch(payload: bytes, most: int) -> Batch:
    """Take a batch of at most so many messages apart; of a larger one nothing is taken, and that is its fault.

    Raises `MessageError` for one in UTF-16 or UTF-32, which cannot be cut byte by byte.
    """
    if _wide(payload):
        reason = "BHS: a batch in UTF-16 or UTF-32 cannot be taken apart; send it in UTF-8, or each message by itself"
        raise MessageError(reason, location="BHS", condition=102)
    text = b"\r" + payload[_start_of(payload) :]  # so that every segment has a line end in front
    pattern = _BARE if text.startswith(b"MSH", 1) else _IN_ENVELOPE
    # Each message may have a batch of its own around it, and that a file.
    begins = [found.start(1) for found in itertools.islice(pattern.finditer(text), 5 * most + 1)]
    if len(begins) > 5 * most or sum(text.startswith(b"MSH", begin) for begin in begins) > most:
        return _too_large(text, begins, most)
    if begins[:1] != [1]:
        begins.insert(0, 1)  # the first is a message whatever its separators are, or it would be lost
    splitter = _Splitter()
    for begin, end in itertools.pairwise([*begins, len(text)]):
        splitter.take(text[begin:end])
    return splitter.batch


def answer_batch(batch: Batch, answers: Sequence[Sequence[bytes]], control_id: Callable[[], str], at: float) -> bytes:
    """Build the batch that answers one: ``answers`` holds, for each group, its acknowledgments in order.

    Faults follow as acknowledgments whose MSA-2 is the control id of the batch (BHS-11, else FHS-11); an empty batch
    without faults gets one AA of that kind. ``control_id`` gives control ids of our own, ``at`` is POSIX seconds.
    """
    parts: list[bytes] = []
    following = iter(answers)
    empty = not batch.size
    for file in batch.files:
        bar = b""
        if file.header is not None:
            bar = file.header.definition[:1]
            parts.append(_header_of(b"FHS", file.header, control_id(), at))
        for number, group in enumerate(file.groups or [Group()], 1):
            base = envelope_of(file, group, batch.like)
            inside = list(next(following)) if file.groups else []
            faults = group.faults if number < len(file.groups) else [*group.faults, *file.faults]
            inside += [_report(base, fault, control_id(), at) for fault in faults]
            if empty and not faults:
                inside.append(acknowledge(base, "AA", control_id(), at))
            whole = base if group.header is not None else base._replace(control_id=b"")
            parts += [_header_of(b"BHS", whole, control_id(), at), *inside]
            parts.append(b"BTS%b%d\r" % (base.definition[:1], len(inside)))
        if bar:
            parts.append(b"FTS%b%d\r" % (bar, len(file.groups) or 1))
    return b"".join(parts)


def envelope_of(file: File, group: Group, like: Header | None) -> Header:
    """Return what is answered when a group itself is answered, as a header: its parties, and the batch's control id.

    Version, mode and character set are those of ``like``, the header of a message in it.
    """
    own = group.header or file.header or like
    if own is None:
        return Header(*read_header(b"MSH|^~\\&")[:2])
    control_id = group.header and group.header.control_id
    control_id = control_id or (file.header and file.header.control_id) or b""
    base = own._replace(control_id=control_id, message_code=b"", trigger=b"", structure=b"", wide="")
    if like is None or base.definition != like.definition:
        return base  # what its messages say is written in other separators
    return base._replace(
        processing_id=like.processing_id,
        version=like.version,
        charset=like.charset,
        accept_ack=like.accept_ack,
        application_ack=like.application_ack,
    )


class _Splitter:
    """Takes a batch's segments one after the other; whatever comes when it should not is reported, and taken."""

    def __init__(self) -> None:
        self.batch = Batch()
        self._file: File | None = None  # the open one
        self._group: Group | None = None
        self._last: Group | None = None  # the one that the last message is in

    def take(self, data: bytes) -> None:
        """Take a message, or a segment of the envelope and what follows it up to the next."""
        name = data[:3].decode()
        if name == "MSH":
            self._take_message(data)
            return
        line = data.partition(b"\r")[0].partition(b"\n")[0]
        if name == "FHS":
            self._begin_file(line)
        elif name == "BHS":
            self._begin_group(line)
        elif name == "BTS":
            self._end_group(line)
        else:
            self._end_file(line)
        rest = data[len(line) :]
        if rest.strip(_BLANK):
            self._take_stray(name, rest)

    def _take_message(self, data: bytes) -> None:
        self._last = self._open_group()
        self._last.messages.append(data)
        if self.batch.like is None:
            with contextlib.suppress(MessageError):
                self.batch.like = read_header(data)

    def _take_stray(self, name: str, data: bytes) -> None:
        """Report segments without a message; they may be the rest of the one before, which is then torn."""
        self.batch.strays.append(data)
        text = f"{name}: segments follow that belong to no message; they were not taken, send them below their MSH"
        (self._group or self.batch.files[-1]).faults.append(Fault(text, location=name))
        if self._last is not None:
            self._last.torn.add(len(self._last.messages) - 1)

    def _begin_file(self, line: bytes) -> None:
        self._group = None
        self._file = File(_read_envelope(line))
        self.batch.files.append(self._file)
        if self._file.header is None:
            self._file.faults.append(_unreadable("FHS"))

    def _begin_group(self, line: bytes) -> None:
        self._group = Group(_read_envelope(line))
        self._open_file().groups.append(self._group)
        if self._group.header is None:
            self._group.faults.append(_unreadable("BHS"))

    def _end_group(self, line: bytes) -> None:
        group = self._open_group()
        group.faults += _counted("BTS", line, len(group.messages), "messages")
        self._group = None

    def _end_file(self, line: bytes) -> None:
        file = self._open_file()
        file.faults += _counted("FTS", line, len(file.groups), "batches")
        self._file = self._group = None

    def _open_file(self) -> File:
        if self._file is None:
            self._file = File()
            self.batch.files.append(self._file)
        return self._file

    def _open_group(self) -> Group:
        if self._group is None:
            self._group = Group()
            self._open_file().groups.append(self._group)
        return self._group


def _too_large(text: bytes, begins: list[int], most: int) -> Batch:
    """Return a batch from which nothing was taken; it is answered under the control id of its first header."""
    splitter = _Splitter()
    if not text.startswith(b"MSH", begins[0]):
        splitter.take(text[begins[0] : begins[1]].partition(b"\r")[0])
    batch = splitter.batch
    if not batch.files:
        batch.files.append(File())
    first = next((begin for begin in begins if text.startswith(b"MSH", begin)), None)
    if first is not None:
        with contextlib.suppress(MessageError):
            batch.like = read_header(text[first : first + _LONGEST].partition(b"\r")[0])
    reason = f"BHS: the batch has more than {most} messages (listen.mllp.max_batch); none was taken, send smaller ones"
    batch.files[0].faults.append(Fault(reason, _INTERNAL, code="AR"))
    batch.strays.append(text[1:])
    return batch


def _counted(name: str, line: bytes, count: int, what: str) -> list[Fault]:
    said = line[4:].partition(line[3:4] or b"|")[0].strip()
    where = f"{name}-1"
    if not said:
        return []
    if not said.isdigit() or len(said) > _DIGITS:
        return [Fault(f"{where}: the count is no number; expected how many {what} came ({count})", _DATA_TYPE, where)]
    if int(said) == count:
        return []
    text = f"{where}: the trailer counts {int(said)} {what}, {count} came; what came was taken, send what is missing"
    return [Fault(text, location=where)]


def _unreadable(name: str) -> Fault:
    return Fault(f"{name}: the separators cannot be read; expected {name}|^~\\&|", _DATA_TYPE, f"{name}-2")


def _read_envelope(line: bytes) -> Header | None:
    """Read BHS or FHS: the parties stand where those of MSH do, and the control id is field 11, MSH-11 there."""
    try:
        read = read_header(b"MSH" + line[3:])
    except MessageError:
        return None
    return Header(read.separators, read.definition, *read[2:6], control_id=read.processing_id)


def _report(base: Header, fault: Fault, control_id: str, at: float) -> bytes:
    code = refusal_code(base, fault.code) or fault.code
    return acknowledge(base, code, control_id, at, text=fault.text, condition=fault.condition, location=fault.location)


def _header_of(name: bytes, header: Header, control_id: str, at: float) -> bytes:
    """Write BHS or FHS of an answer: the parties swapped, and the control id of what it answers in field 12."""
    bar = header.definition[:1]
    parties = (*header[4:6], *header[2:4])
    fields = (name + header.definition, *parties, timestamp(at), b"", b"", b"", control_id.encode(), header.control_id)
    return bar.join(fields).translate(None, b"\x0b\x1c") + b"\r"


def _start_of(payload: bytes) -> int:
    start = len(payload) - len(payload.lstrip(_BEFORE))
    if payload.startswith(_BOM, start):
        start += len(_BOM)
    return start


def _wide(payload: bytes) -> str:
    """Return the codec of a payload in UTF-16 or UTF-32, with a byte order mark or without, or nothing."""
    begin = payload.lstrip(b"\x0b\r\n")
    codec = mark_of(begin)
    if codec == "utf-8-sig":
        return ""
    return codec or next((codec for codec, names in _WIDE.items() if begin.startswith(names)), "")


def _narrow(payload: bytes) -> bytes:
    """Return a wide payload as UTF-8, enough to see what it is."""
    codec = _wide(payload)
    return payload.lstrip(b"\x0b\r\n").decode(codec, "replace").lstrip("\ufeff").encode() if codec else payload
