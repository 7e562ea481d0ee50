"""This module holds what a version of HL7 and a profile ask of each segment, compiled as messages need it."""

from collections.abc import Callable
from typing import Any, Final

from transforms.dictionary import dictionary
from transforms.shapes import Patterns, Shape, Shapes

Sound = Callable[[str], Any]

OBSERVATION: Final = ("OBX", 2, 5)  # the segment whose field 2 names the data type of its field 5
_UNUSUAL: Final = 2  # times that a field is met before compiling a pattern, a matter of milliseconds, is worth it
_DEFINED: Final = 2  # MSH-1 and MSH-2, which reading the message has checked
_DEFINING: Final = frozenset({"MSH", "BHS", "FHS"})


class SegmentPlan:
    """One segment of one version under one profile, for one set of separators; compiled field by field, when usual."""

    def __init__(self, shapes: tuple[Shape | None, ...], patterns: Patterns | None, first: int) -> None:
        self.shapes = shapes
        self.required = tuple(
            number for number, shape in enumerate(shapes, 1) if number >= first and shape and shape.least
        )
        self._patterns = patterns
        # By place in `Segment.fields`: the name, and in MSH the separators, are not looked at.
        self.sound: list[Sound] = [_always] * first + [
            self._when_met(number) for number in range(first, len(shapes) + 1)
        ]
        self.by_type: dict[str, tuple[Shape, Sound] | None] = {}

    def _when_met(self, number: int) -> Sound:
        times = 0

        def compile_when_usual(text: str) -> Any:
            nonlocal times
            times += 1
            if times <= _UNUSUAL:
                return False  # it is looked at the long way, which is right as well
            self.sound[number] = sound = self.compiled(self.shapes[number - 1])
            return sound(text)

        return compile_when_usual

    def compiled(self, shape: Shape | None) -> Sound:
        """Return what tells that a field is right for certain."""
        pattern = None if shape is None or self._patterns is None else self._patterns.of_field(shape)
        return _never if pattern is None else pattern.fullmatch


def _always(_text: str) -> bool:
    return True


def _never(_text: str) -> bool:
    return False


class Plan:
    """All segments of one version under one profile, for one set of separators; without patterns it is slower."""

    def __init__(self, version: str, shapes: Shapes, patterns: Patterns | None) -> None:
        self.version = version
        self.known = dictionary(version)
        self.shapes = shapes
        self._patterns = patterns
        self._segments: dict[str, SegmentPlan | None] = {}

    def segment(self, name: str) -> SegmentPlan | None:
        """Return the plan of a segment, or None when neither HL7 nor the profile knows it."""
        try:
            return self._segments[name]
        except KeyError:
            pass
        shapes = self.shapes.of_segment(name)
        if shapes is None:
            return None  # not kept: a message may hold any number of such names
        first = _DEFINED + 1 if name in _DEFINING else 1
        plan = self._segments[name] = SegmentPlan(shapes, self._patterns, first)
        return plan

    def value_of(self, plan: SegmentPlan, datatype: str) -> tuple[Shape, Sound] | None:
        """Return how an observation's value of a data type looks; None when there is no such type."""
        if datatype not in plan.by_type:
            if not self.known.is_datatype(datatype):
                return None
            field = plan.shapes[OBSERVATION[2] - 1]
            name, most = (field.name, field.most) if field else ("", 1)
            shape = self.shapes.of_type(datatype, name, most)
            plan.by_type[datatype] = shape, plan.compiled(shape)
        return plan.by_type[datatype]
