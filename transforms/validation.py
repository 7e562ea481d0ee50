"""This module checks whole messages against HL7 v2's dictionary and a profile, and finds everything at once."""

from functools import lru_cache
from typing import Final, Literal

from broker.wire.er7 import Message, Segment, Separators
from broker.wire.header import is_backslash_lost
from transforms import finding
from transforms.dictionary import ASSUMED, NEAREST, VERSIONS, dictionary
from transforms.fields import Look, Place
from transforms.finding import Finding, Findings
from transforms.plans import OBSERVATION, Plan, SegmentPlan
from transforms.profile import Profile
from transforms.shapes import Patterns, Shapes
from transforms.structures import Structure, Walk, structure, structure_of

Level = Literal["off", "lenient", "strict"]
_ANYWHERE: Final = frozenset({"ADD"})  # goes on with the segment before it
_NAME_LENGTH: Final = 3
_MOST_SEPARATORS: Final = 8  # sets of them; a sender that invents new ones costs time, and no memory


class Validator:
    """Checks messages at one level, by one version (else each by its own), with one profile."""

    def __init__(self, level: Level = "lenient", profile: Profile | None = None, version: str = "") -> None:
        self.level = level
        self.profile = profile
        self.version = version
        self._shapes: dict[str, Shapes] = {}
        self._plans: dict[tuple[str, Separators | None], Plan] = {}
        self._separators: set[Separators] = set()
        rules = profile.segments if profile else {}
        self._demanded = {name: rule.required for name, rule in rules.items() if rule.required is not None}
        self._repeating = {name: rule.repeat for name, rule in rules.items() if rule.repeat is not None}

    def __call__(self, message: Message) -> Findings:
        """Return what is wrong with a message."""
        findings = Findings(strict=self.level == "strict")
        if self.level == "off":
            return findings
        if excess := message.excess():
            findings.add(finding.TOO_MUCH, *excess)
            return findings
        version = self._version_of(message, findings)
        plan = self._plan(version, message.separators)
        if is_backslash_lost(message.header.definition):
            text = "The backslash of ^~\\& is lost; & is read as what separates subcomponents, and nothing as an escape"
            findings.add(finding.ESCAPE_LOST, "MSH-2", text)
        for name, line in message.small_names().items():
            text = f"Line {line} begins with {name} in small letters, so it is text of the segment before it"
            nobody = name == "PID" and message.first(name) is None
            kind = finding.PATIENT_MISSING if nobody else finding.NAME_IN_SMALL
            findings.add(kind, name, f"{text}; segments have their names in capitals")
        segments = message.segments()
        tree = self._structure_of(message, plan, findings)
        _Pass(self, message, plan, findings).run(segments, tree)
        return findings

    def _plan(self, version: str, separators: Separators) -> Plan:
        """Return the plan for a message; patterns are compiled for the first few sets of separators that are met."""
        if separators not in self._separators and len(self._separators) < _MOST_SEPARATORS:
            self._separators.add(separators)
        key = version, separators if separators in self._separators else None
        if key not in self._plans:
            if version not in self._shapes:
                self._shapes[version] = Shapes(dictionary(version), self.profile)
            self._plans[key] = Plan(version, self._shapes[version], Patterns(separators) if key[1] else None)
        return self._plans[key]

    def _version_of(self, message: Message, findings: Findings) -> str:
        told = self.version or (message.get("MSH-12.1") or "").strip()
        if told in VERSIONS:
            return told
        if told in NEAREST:
            text = f"There are no tables for HL7 {told}; the message is checked as {NEAREST[told]}"
            findings.add(finding.VERSION_NEAR, "MSH-12", text)
            return NEAREST[told]
        text = f"The version is {'none of HL7 v2' if told else 'missing'}; the message is checked as {ASSUMED}"
        findings.add(finding.VERSION_UNKNOWN, "MSH-12", text)
        return ASSUMED

    @staticmethod
    def _structure_of(message: Message, plan: Plan, findings: Findings) -> Structure | None:
        code, trigger, declared = (message.get(f"MSH-9.{number}") or "" for number in (1, 2, 3))
        name = structure_of(plan.known, code, trigger, declared)
        if name:
            if declared and declared != name:
                text = f"HL7 {plan.version} has no such message structure; the message is checked as {name}"
                findings.add(finding.CODE_UNKNOWN, "MSH-9.3", text)
            return structure(plan.version, name)
        if code.startswith("Z") or trigger.startswith("Z"):
            return None  # the site's own message, of which nobody declares the structure
        known = any(each.startswith(f"{code}_") for each in plan.known.structures)
        text = f"HL7 {plan.version} does not have this {{}}; the order of segments is not checked"
        if known:
            findings.add(finding.EVENT_UNKNOWN, "MSH-9.2", text.format("event"))
        else:
            findings.add(finding.STRUCTURE_UNKNOWN, "MSH-9.1", text.format("message type"))
        return None

    def decides_on(self, name: str) -> bool:
        """Tell whether the profile says if a segment must be there."""
        return name in self._demanded

    @property
    def demanded(self) -> list[str]:
        """The segments that the profile says must be there."""
        return [name for name, required in self._demanded.items() if required]

    def may_repeat(self, name: str) -> bool | None:
        """Return whether the profile says that a segment may occur more than once; None where it does not say."""
        return self._repeating.get(name)


class _Pass:
    """One validation of one message."""

    def __init__(self, validator: Validator, message: Message, plan: Plan, findings: Findings) -> None:
        self._validator = validator
        self._plan = plan
        self._findings = findings
        self._look = Look(message.separators, message.encoding, findings)
        self._counts: dict[str, int] = {}
        self._before = "MSH"  # the last segment that is one
        self._late: dict[str, int] = {}  # segments that stand where they may not
        separators = message.separators
        self._marks = f"{separators.component}{separators.repetition}{separators.subcomponent}"

    def run(self, segments: list[Segment], tree: Structure | None) -> None:
        walk = Walk(tree) if tree is not None else None
        for number, segment in enumerate(segments, 1):
            name = segment.name
            occurrence = self._counts[name] = self._counts.get(name, 0) + 1
            plan = self._plan.segment(name)
            if plan is None:
                self._unknown(segment, number, occurrence)
                continue
            self._before = name
            if tree is not None and walk is not None and name[0] != "Z":
                self._order(tree, walk, name, occurrence)
            self._fields(segment, plan, occurrence)
        self._end(tree, walk)

    def _unknown(self, segment: Segment, number: int, occurrence: int) -> None:
        """Say that a line is no segment; what does not look like its name may be a person's, and is not said."""
        name = segment.name
        looks_like = len(name) == _NAME_LENGTH and name.isascii() and name.isalnum() and name.isupper()
        if looks_like and len(segment.fields) > 1:
            if name[0] != "Z":
                text = f"HL7 {self._plan.version} has no such segment; it is not looked at"
                self._findings.add(finding.SEGMENT_UNKNOWN, str(Place(name, occurrence, 0)), text)
            return
        del self._counts[name]  # any number of lines can be no segment
        place = str(Place(self._before, self._counts.get(self._before, 1), 0))
        text = f"Line {number} of the message begins with no segment's name; a field may hold a line break"
        self._findings.add(finding.SEGMENT_UNKNOWN, place, text)

    def _order(self, tree: Structure, walk: Walk, name: str, occurrence: int) -> None:
        allowed = None
        if occurrence > 1:
            allowed = self._validator.may_repeat(name)
            if allowed is False or (allowed is None and name in tree.single):
                place, text = str(Place(name, occurrence, 0)), f"The segment may occur once in {tree.name}"
                self._findings.add(finding.REPEATS, place, text, enforced=allowed is False)
                return
        if walk.take(name, occurrence) or name in _ANYWHERE or allowed:
            return
        self._late[name] = self._late.get(name, 0) + 1
        known = name in tree.names
        text = f"The segment may not stand here in {tree.name}" if known else f"{tree.name} has no such segment"
        self._findings.add(finding.SEGMENT_ORDER, str(Place(name, occurrence, 0)), text)

    def _end(self, tree: Structure | None, walk: Walk | None) -> None:
        for name, following in walk.missing() if walk is not None else ():
            if self._late.get(name):  # it is there after all, at the wrong place, and that was said
                self._late[name] -= 1
            elif not self._validator.decides_on(name):
                nobody = name == "PID" and tree is not None and name in tree.needed and name not in self._counts
                kind = finding.PATIENT_MISSING if nobody else finding.SEGMENT_MISSING
                where = Place(*following, 0) if following else "the message ends"
                text = f"The segment {name} is required before {where}"
                self._findings.add(kind, name.partition(" ")[0], text)
        for name in self._validator.demanded:
            if name not in self._counts:
                text = f"The profile requires the segment {name}, and it is missing"
                self._findings.add(finding.SEGMENT_MISSING, name, text, enforced=True)

    def _fields(self, segment: Segment, plan: SegmentPlan, occurrence: int) -> None:
        fields, shapes = segment.fields, plan.shapes
        for number, (text, sound) in enumerate(zip(fields, plan.sound, strict=False)):
            if text and not sound(text):
                self._look.field(Place(segment.name, occurrence, number), text, shapes[number - 1])
        for number in plan.required:
            shape = shapes[number - 1]
            if shape is not None and (number >= len(fields) or not fields[number].strip(self._marks)):
                self._look.missing(Place(segment.name, occurrence, number), shape)
        for number in range(len(plan.sound), len(fields)):
            if fields[number]:
                self._look.field(Place(segment.name, occurrence, number), fields[number], None)
        if segment.name == OBSERVATION[0]:
            self._observation(segment, plan, occurrence)

    def _observation(self, segment: Segment, plan: SegmentPlan, occurrence: int) -> None:
        _, kind, value = OBSERVATION
        text = segment.fields[value] if len(segment.fields) > value else ""
        if not text:
            return
        datatype = segment.fields[kind]
        if not datatype:
            wrong = "The type of the observation's value is not valued, and the value is"
            self._findings.add(finding.FIELD_MISSING, str(Place(segment.name, occurrence, kind)), wrong)
            return
        found = self._plan.value_of(plan, datatype)
        if found is not None and not found[1](text):  # a type that does not exist is no code of table 0125 either
            self._look.field(Place(segment.name, occurrence, value), text, found[0])


_validator = lru_cache(maxsize=16)(Validator)


def validate(
    message: Message, level: Level = "lenient", profile: Profile | None = None, version: str = ""
) -> list[Finding]:
    """Return what is wrong with a message, in its order; of each severity the first hundred, and how many more.

    ``version`` overrules MSH-12. A version without tables is checked as the nearest that has them.
    """
    validator = _validator(level, version=version) if profile is None else Validator(level, profile, version)
    return validator(message).told()
