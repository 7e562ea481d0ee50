"""This module compares what we make of other people's files with what they, or peers, say of them.

``python -m tests.conformance.peers`` prints a table of every group; the files are in ``../shared/data``.
"""

import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from broker.errors import MessageError
from broker.wire.er7 import Message
from broker.wire.location import Location
from broker.wire.mllp import Decoder, Frame
from broker.wire.segment import Segment
from console.inspection import ACCEPTED, Asked, Seen, inspect
from tests.conformance.essentials import essentials
from tests.conformance.explained import VALUES, VERDICTS
from tests.conformance.flat_files import flat_files
from tests.conformance.group import DATA, HEAD, Group
from tests.conformance.vectors import vectors
from tests.wire_cases import connections_of, wire_cases

_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_VALUES: Final = 0.99  # of all values that a peer reads, those that we read


def look(file: Path, group: Group) -> Seen | None:
    """Read a file, and note whether it crashed or was refused without saying where."""
    try:
        seen = inspect(file.read_bytes(), Asked(fhir=True))
    except Exception as error:  # noqa: BLE001 - a crash is what is looked for
        group.add("crashed", f"{file.name}: {type(error).__name__}")
        return None
    if seen.verdict == ACCEPTED:
        group.add("read right")
    elif any(error["severity"] == "error" and error["text"] for error in seen.errors):
        group.add("refused right")
    else:
        group.add("wrong", f"{file.name}: refused without a reason")
    return seen


def hl7_files() -> Group:
    """Read every HL7 file; a message whose bytes are not all there again would be wrong."""
    group = Group("HL7 v2 files")
    for file in sorted((DATA / "hl7").glob("*.hl7")):
        seen = look(file, group)
        if seen is not None and isinstance(seen.source, Message) and seen.source.raw != file.read_bytes():
            group.add("wrong", f"{file.name}: its bytes are not all there again")
    return group


def values(peer: str) -> Group:
    """Compare every value that a peer read with ours: ``hapi`` unescaped, ``python-hl7`` as sent."""
    group = Group(f"values, against {peer}", _VALUES)
    for file in sorted((DATA / "hl7").glob("*.hl7")):
        dump = json.loads((DATA / "expect" / peer / f"{file.stem}.json").read_bytes())
        try:
            message = Message.parse(file.read_bytes())
        except MessageError:
            continue
        for name, segment, place, theirs in _dumped(dump, message):
            ours = _unescaped(segment, name, place) if peer == "hapi" else _as_sent(segment, place)
            if ours == theirs:
                group.add("read right")
            elif VALUES[peer](ours, theirs, message, place):
                group.add("explained")
            else:
                group.add("wrong", f"{file.name}: {name}-{place[0]}({place[1]}).{place[2]}.{place[3]}")
    return group


Place = tuple[int, int, int, int]  # field, repetition, component, subcomponent


def _dumped(dump: dict[str, Any], message: Message) -> Iterator[tuple[str, Segment | None, Place, str]]:
    seen: Counter[str] = Counter()
    for each in dump.get("segments", ()):
        name = each["seg"]
        seen[name] += 1
        if not _NAME.fullmatch(name):
            continue
        found = message.segments(name)
        segment = found[seen[name] - 1] if len(found) >= seen[name] else None
        for number, repetitions in each["f"].items():
            for repetition, components in enumerate(repetitions, 1):
                for component, parts in enumerate(components, 1):
                    for part, value in enumerate(parts if isinstance(parts, list) else [parts], 1):
                        if value:
                            yield name, segment, (int(number), repetition, component, part), value


def _unescaped(segment: Segment | None, name: str, place: Place) -> str | None:
    number, repetition, component, part = place
    return segment.at(Location(name, number, component, part, repetition=repetition)) if segment else None


def _as_sent(segment: Segment | None, place: Place) -> str | None:
    number, repetition, component, part = place
    try:
        text = segment.repetitions(number)[repetition - 1] if segment else None
        if text is None or segment is None or (segment.name in {"MSH", "BHS", "FHS"} and number <= 2):
            return text
        separators = segment.separators
        text = text.split(separators.component)[component - 1] if separators.component else text
        return text.split(separators.subcomponent)[part - 1] if separators.subcomponent else text
    except IndexError:
        return None


def verdicts() -> list[Group]:
    """Compare accept and reject with other parsers'; every difference must be one that is explained.

    HAPI and hl7apy were run over all files, without validation; nHapi's and kardianos' own tests say what they expect.
    """
    theirs = json.loads((DATA / "expect/accept-reject.json").read_bytes())
    hapi = {name: run["no_validation"] for name, run in theirs["hapi_2_3_run"].items()}
    results = json.loads((DATA / "expect/hl7apy-accept.json").read_bytes())["results"]
    hl7apy = {name: run["tolerant"] for name, run in results.items()}
    expected = {case["file"]: {"ok": case["expect"].startswith("accept")} for case in theirs["peer_tests"]}
    seen = {f"hl7/{file.name}": inspect(file.read_bytes(), Asked()) for file in sorted((DATA / "hl7").glob("*.hl7"))}
    return [
        _verdicts("HAPI", hapi, seen),
        _verdicts("hl7apy", hl7apy, seen),
        _verdicts("peers' own tests", expected, seen),
    ]


def _verdicts(peer: str, theirs: dict[str, Any], seen: dict[str, Seen]) -> Group:
    group = Group(f"verdicts, against {peer}")
    for name, verdict in theirs.items():
        ours = seen[name]
        if (ours.verdict == ACCEPTED) == verdict["ok"]:
            group.add("read right" if verdict["ok"] else "refused right")
        elif why := explained(ours, verdict):
            group.add("explained", f"differs: {why}")
        else:
            group.add("wrong", f"{name}: {ours.errors[:1]}")
    return group


def explained(seen: Seen, theirs: dict[str, Any]) -> str:
    """Return why our verdict differs from a peer's: a row of `VERDICTS`."""
    if seen.verdict == ACCEPTED:
        said = theirs.get("message", "")
        return next((why for start, why in VERDICTS["accepted"] if start in said), "")
    first = next(error for error in seen.errors if error["severity"] == "error")
    said = f"{first['location']} {first['text']}", first["text"].removeprefix(f"{first['location']}: ")
    return next((why for start, why in VERDICTS["refused"] if any(text.startswith(start) for text in said)), "")


def fhir_files() -> Group:
    """Read every FHIR file; by the names that their authors gave them, some must be refused."""
    group = Group("FHIR files")
    for file in sorted((DATA / "fhir").iterdir()):
        look(file, group)
    return group


def mllp_cases() -> Group:
    """Feed every wire case: the frames that must come out do, and no two messages are ever one."""
    group = Group("MLLP wire cases")
    for file in wire_cases():
        case = json.loads(file.read_bytes())
        expected = [base64.b64decode(frame) for frame in case["expect"].get("frames_b64") or ()]
        frames = [bytes(frame) for chunks in connections_of(case) for frame in _frames(chunks)]
        right = frames == expected or case["expect"]["level"] != "must" or "frames_b64" not in case["expect"]
        merged = any(frame.count(b"\rMSH|") + frame.startswith(b"MSH|") > 1 for frame in frames)
        group.compare(same=right and not merged, note=file.name)
    return group


def _frames(chunks: list[bytes]) -> Iterator[bytes]:
    decoder = Decoder(1 << 24)
    for chunk in chunks:
        yield from (item.payload for item in decoder.feed(chunk) if isinstance(item, Frame))


def measure() -> list[Group]:
    """Compare everything."""
    files = [hl7_files(), fhir_files(), flat_files(), mllp_cases()]
    return [*files, values("hapi"), values("python-hl7"), *vectors(), *essentials(), *verdicts()]


def main() -> int:
    """Print the table; return 1 where a target is missed."""
    if not DATA.is_dir():
        sys.stderr.write(f"needs {DATA}, which is not here\n")
        return 1
    groups = measure()
    sys.stdout.write(HEAD + "\n")
    for group in groups:
        sys.stdout.write(group.row() + "\n")
    for group in groups:
        for note, count in Counter(group.notes).most_common(40):
            sys.stdout.write(f"  {group.name}: {note}" + (f" ({count})" if count > 1 else "") + "\n")
    return int(not all(group.is_met for group in groups))


if __name__ == "__main__":
    sys.exit(main())
