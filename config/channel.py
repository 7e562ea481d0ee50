"""This module reads a channel: what an analyst wrote becomes a plan in which every part is typed and has a name.

`read_channel` reports everything that is wrong with its place; `load_pure` takes the same tree without places, as a
worker process gets it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import orjson
from pydantic import Field

from broker.errors import ConfigError
from broker.ids import DELIVERIES
from broker.retry import RetryPolicy
from broker.spec import DestinationSpec, Expression, FormatSpec, ListenerSpec, Spec, StepSpec
from broker.wire.charset import Charset
from config import catalog
from config.findings import Finding, did_you_mean, has_errors, report
from config.marks import Keys, Mark, Marks, Source, show
from config.sending import RetrySpec, SendingSpec
from config.wording import INDEX_PATTERN, NAME_PATTERN, found, unknown_key, validate

S = TypeVar("S", bound=Spec)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
IndexName = Annotated[str, Field(pattern=INDEX_PATTERN)]
_REVISION_DIGITS: Final = 12
_FROM_MESSAGE: Final = "MSH-18"  # the charset option that believes the message
_HL7: Final = "hl7"  # what messages are where the channel does not say


class DeliverSpec(SendingSpec):
    """What a destination has in common with every other."""

    after: Name | None = Field(default=None, description="The destination that must have the message first.")
    when: Expression | None = Field(default=None, description="Deliver only if this expression is true.")
    retry: RetrySpec = Field(default=RetrySpec(), description="When to try again and when to give up.")
    on_dead: Literal["step_over", "block"] = Field(
        default="step_over", description="Whether a dead letter lets the messages behind it in its lane go on."
    )
    unknown: Literal["retry", "hold"] | None = Field(
        default=None,
        description="What to do when nobody knows whether a delivery took effect; each kind has a default.",
    )


class ChannelSpec(Spec):
    """A channel file: where messages come in, what is done with them, and where they go."""

    channel: Name = Field(description="The channel's name; the file is called the same.")
    description: str = Field(default="", description="What the channel is for, in one sentence.")
    labels: dict[str, str] = Field(default={}, description="Free labels, such as facility and owner.")
    listen: dict[str, Any] = Field(description="The way in: exactly one kind of listener.")
    format: Any = Field(default=_HL7, description="What the messages are: a kind of format, with options or without.")
    order: Expression | None = Field(
        default=None,
        description="Messages with the same value stay in order; without it, the patient's record number.",
    )
    index: dict[IndexName, Expression] = Field(
        default={}, description="Values to find messages by in the console, kept as keyed hashes."
    )
    steps: list[Any] = Field(default=[], description="What is done with a message, in order; one kind each.")
    deliver: dict[Name, Any] = Field(
        default={}, max_length=DELIVERIES, description="Where messages go: names and their destinations."
    )


@dataclass(frozen=True, slots=True)
class ListenPlan:
    """The way in: the listener's kind and its declaration; ``charset`` is what it fixes of the messages' own."""

    kind: str
    spec: ListenerSpec

    @property
    def charset(self) -> Charset | None:
        """Return the character set that the listener declares, or None where it leaves that to the messages."""
        return _charset(self.spec)


@dataclass(frozen=True, slots=True)
class FormatPlan:
    """What the messages are: the format's kind and its declaration."""

    kind: str
    spec: FormatSpec


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step; ``position`` counts from 1, ``name`` is how findings, overrides and journeys call it."""

    position: int
    kind: str
    spec: StepSpec

    @property
    def name(self) -> str:
        """Return the step's name: ``steps.2.canonical``."""
        return f"steps.{self.position}.{self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverPlan:
    """One destination, with the policies of its kind filled in."""

    name: str
    kind: str
    spec: DestinationSpec
    after: str | None
    when: Expression | None
    retry: RetryPolicy
    on_dead: str  # step_over or block
    unknown: str  # retry or hold; empty: as the destination says
    sending: SendingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPlan:
    """A channel as it was read, ready to build.

    ``tree`` is its content after overrides, secrets unresolved, as JSON takes it: a worker process builds from it.
    ``presets`` are what the presets of the systems that it names say. ``revision`` covers the tree, these, and the
    template and script files that it names.
    """

    name: str
    description: str
    labels: Mapping[str, str]
    listen: ListenPlan
    format: FormatPlan
    order: Expression | None
    index: Mapping[str, Expression]
    steps: tuple[StepPlan, ...]
    deliver: tuple[DeliverPlan, ...]
    tree: dict[str, Any] = field(repr=False)
    presets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    revision: str = ""
    file: str = ""

    def sealed(self, files: Mapping[str, bytes], presets: Mapping[str, Any] | None = None) -> "ChannelPlan":
        """Return the plan with its revision: twelve hex digits of SHA-256 over tree and files."""
        digest = hashlib.sha256(orjson.dumps(self.tree))
        if presets:
            digest.update(orjson.dumps(presets, option=orjson.OPT_SORT_KEYS))
        for name in sorted(files):
            digest.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
        return replace(self, presets=presets or {}, revision=digest.hexdigest()[:_REVISION_DIGITS])


def _charset(listener: Any) -> Charset | None:
    fixed = getattr(listener, "charset", _FROM_MESSAGE)
    charset = Charset(
        "" if fixed == _FROM_MESSAGE else str(fixed),
        getattr(listener, "default_charset", None) or "",
        getattr(listener, "undecodable", "refuse"),
    )
    return None if charset == Charset() else charset


@dataclass(frozen=True, slots=True)
class PurePlan:
    """What a worker process runs of a channel."""

    format: FormatPlan
    charset: Charset | None
    order: Expression | None
    steps: tuple[StepPlan, ...]
    deliver: tuple[DeliverPlan, ...]


def load_pure(tree: dict[str, Any]) -> PurePlan:
    """Read a tree that was checked before; raise `ConfigError` with everything that is wrong.

    The listener is left alone: the network code behind it has no business where analysts' code runs.
    """
    findings: list[Finding] = []
    reading = _Reading(Marks(Mark(Source(str(tree.get("channel", "channel")), ""), 0, 1)), findings)
    form = reading.format(tree.get("format", _HL7), None)
    steps, deliver = reading.steps(tree.get("steps")), reading.deliver(tree.get("deliver"))
    if form is None or has_errors(findings):
        raise ConfigError(report(findings))
    (options,) = tree["listen"].values()
    return PurePlan(form, _charset(SimpleNamespace(**options)), tree.get("order"), steps, deliver)


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be read of a channel file: the parts without mistakes, so that more can be looked for in them."""

    head: ChannelSpec | None
    listen: ListenPlan | None
    format: FormatPlan | None
    steps: tuple[StepPlan, ...]
    deliver: tuple[DeliverPlan, ...]
    tree: dict[str, Any]
    file: str
    sound: bool

    def plan(self) -> ChannelPlan | None:
        """Return the channel, or None where there was a mistake."""
        if self.head is None or self.listen is None or self.format is None or not self.sound:
            return None
        return ChannelPlan(
            name=self.head.channel,
            description=self.head.description,
            labels=self.head.labels,
            listen=self.listen,
            format=self.format,
            order=self.head.order,
            index=self.head.index,
            steps=self.steps,
            deliver=self.deliver,
            tree=self.tree,
            file=self.file,
        )


def read_channel(value: Any, marks: Marks, findings: list[Finding]) -> Draft:
    """Read a channel; add everything that is wrong to ``findings``."""
    before = len(findings)
    head = validate(ChannelSpec, value, (), marks, findings)
    reading = _Reading(marks, findings)
    tree = value if isinstance(value, dict) else {}
    listen = reading.listen(tree.get("listen"))
    form = reading.format(tree.get("format", _HL7), listen)
    steps = reading.steps(tree.get("steps"))
    deliver = reading.deliver(tree.get("deliver"))
    sound = not has_errors(findings[before:])
    return Draft(head, listen, form, steps, deliver, tree, marks.whole.source.name, sound)


class _Reading:
    """Reads the parts of one channel; whatever is no mapping or list at all was reported with the head."""

    _BLOCK: ClassVar[list[str]] = list(DeliverSpec.model_fields)

    def __init__(self, marks: Marks, findings: list[Finding]) -> None:
        self._marks = marks
        self._findings = findings

    def listen(self, value: Any) -> ListenPlan | None:
        """Read the one listener."""
        if not isinstance(value, dict):
            return None
        kind = self._only_kind(value, ("listen",), catalog.LISTENERS, "listener", [])
        if kind is None:
            return None
        spec = validate(catalog.LISTENERS[kind], value[kind], ("listen", kind), self._marks, self._findings)
        return ListenPlan(kind, spec) if spec else None

    def format(self, value: Any, listen: ListenPlan | None) -> FormatPlan | None:
        """Read the one format; a bare word is a kind without options."""
        full = {value: None} if isinstance(value, str) else value
        if not isinstance(full, dict):
            text = f"format needs one kind of format, such as hl7; found {found(value)}"
            self._findings.append(self._marks.value(("format",)).finding("E106", text, _kinds(catalog.FORMATS)))
            return None
        if isinstance(value, str) and value not in catalog.FORMATS:
            text, hint = f'there is no format "{value}"', did_you_mean(value, catalog.FORMATS)
            self._findings.append(self._marks.value(("format",)).finding("E107", text, hint))
            return None
        kind = self._only_kind(full, ("format",), catalog.FORMATS, "format", [])
        if kind is None:
            return None
        formats = listen.spec.usable_formats() if listen is not None else frozenset()
        if listen is not None and formats and kind not in formats:
            text = f"listen.{listen.kind} brings {' or '.join(sorted(formats))}, not {kind}"
            self._findings.append(self._marks.value(("format",)).finding("E107", text, "choose another listener"))
            return None
        spec = validate(catalog.FORMATS[kind], full[kind], ("format", kind), self._marks, self._findings)
        return FormatPlan(kind, spec) if spec else None

    def steps(self, value: Any) -> tuple[StepPlan, ...]:
        """Read the steps, those that can be."""
        plans = [self._step(number, item) for number, item in enumerate(value if isinstance(value, list) else [])]
        return tuple(plan for plan in plans if plan is not None)

    def _step(self, number: int, item: Any) -> StepPlan | None:
        keys: Keys = ("steps", number)
        if not isinstance(item, dict):
            text = f"{show(keys)} needs one kind of step, such as filter; found {found(item)}"
            hint = f"write {item}: {{}}" if isinstance(item, str) and item in catalog.STEPS else ""
            self._findings.append(self._marks.value(keys).finding("E106", text, hint or _kinds(catalog.STEPS)))
            return None
        kind = self._only_kind(item, keys, catalog.STEPS, "step", [])
        if kind is None:
            return None
        spec = validate(catalog.STEPS[kind], item[kind], (*keys, kind), self._marks, self._findings)
        return StepPlan(number + 1, kind, spec) if spec else None

    def deliver(self, value: Any) -> tuple[DeliverPlan, ...]:
        """Read the destinations, those that can be, and how they wait for each other."""
        blocks = value if isinstance(value, dict) else {}
        plans = [plan for name, block in blocks.items() if (plan := self._destination(name, block)) is not None]
        self._check_links(blocks, "after", "wait for each other")
        self._check_links(blocks, "fallback", "fall back on each other")
        self._check_stand_ins(blocks)
        return tuple(plans)

    def _destination(self, name: str, block: Any) -> DeliverPlan | None:
        keys: Keys = ("deliver", name)
        if not isinstance(block, dict):
            text = f"{show(keys)} needs keys and values, found {found(block)}"
            self._findings.append(self._marks.value(keys).finding("E106", text, _kinds(catalog.DESTINATIONS)))
            return None
        common = {key: inner for key, inner in block.items() if key in self._BLOCK}
        options = validate(DeliverSpec, common, keys, self._marks, self._findings)
        rest = {key: inner for key, inner in block.items() if key not in common}
        kind = self._only_kind(rest, keys, catalog.DESTINATIONS, "destination", self._BLOCK)
        if kind is None:
            return None
        spec = validate(catalog.DESTINATIONS[kind], rest[kind], (*keys, kind), self._marks, self._findings)
        if spec is None:
            return None
        options = options or DeliverSpec()  # what is wrong with them was reported; go on looking for more
        if options.concurrency is not None and "concurrency" in type(spec).model_fields:
            spec = spec.model_copy(update={"concurrency": options.concurrency})  # it has as many connections
        return DeliverPlan(
            name=name,
            kind=kind,
            spec=spec,
            after=options.after,
            when=options.when,
            retry=options.retry.policy(),
            on_dead=options.on_dead,
            unknown=options.unknown or spec.unknown_policy(),
            sending=options,
        )

    def _only_kind(
        self, value: dict[str, Any], keys: Keys, parts: catalog.Parts[S], word: str, others: list[str]
    ) -> str | None:
        """Return the one known kind in a mapping; report unknown keys, several kinds, or none."""
        kinds = [key for key in value if key in parts]
        unknown = [key for key in value if key not in parts]
        for key in unknown:
            self._findings.append(unknown_key((*keys, key), [*parts, *others], self._marks))
        if len(kinds) > 1:
            text = f"{show(keys)} has {' and '.join(kinds)}; it can be only one kind of {word}"
            self._findings.append(self._marks.key((*keys, kinds[1])).finding("E110", text))
        elif not kinds and not unknown:
            text = f"{show(keys)} needs one kind of {word}"
            self._findings.append(self._marks.key(keys).finding("E110", text, _kinds(parts)))
        return kinds[0] if len(kinds) == 1 else None

    def _check_links(self, blocks: dict[str, Any], key: str, words: str) -> None:
        links = _links(blocks, key)
        reported: set[str] = set()
        for name, other in links.items():
            mark = self._marks.value(("deliver", name, key))
            if other not in blocks:
                text = f'deliver.{name}.{key} names "{other}", which is no destination of this channel'
                names = [known for known in blocks if known != name]
                self._findings.append(mark.finding("E302", text, did_you_mean(other, names)))
            circle = _circle(name, links)
            if circle and not reported & set(circle):
                reported |= set(circle)
                text = f"destinations {words}: {' → '.join([*circle, circle[0]])}"
                self._findings.append(mark.finding("E303", text, f"remove one `{key}`"))

    def _check_stand_ins(self, blocks: dict[str, Any]) -> None:
        """Find what waits, or is waited for, although it comes to be only if another cannot be had."""
        stand_ins = set(_links(blocks, "fallback").values())
        for name, other in _links(blocks, "after").items():
            for wrong in {name, other} & stand_ins:
                text = f'"{wrong}" is a fallback and may never get the message: it cannot wait, nor be waited for'
                mark = self._marks.value(("deliver", name, "after"))
                self._findings.append(mark.finding("E310", text, "remove this `after`, or the `fallback`"))


def _links(blocks: dict[str, Any], key: str) -> dict[str, str]:
    """Return which destination names which other under ``key``."""
    return {
        name: block[key]
        for name, block in blocks.items()
        if isinstance(block, dict) and isinstance(block.get(key), str)
    }


def _circle(name: str, after: dict[str, str]) -> list[str]:
    """Return the destinations of the circle that waiting leads back to ``name`` through, or nothing."""
    way = [name]
    while (following := after.get(way[-1])) is not None:
        if following == name:
            return way
        if following in way:
            return []
        way.append(following)
    return []


def _kinds(parts: catalog.Parts[S]) -> str:
    return f"allowed: {', '.join(parts)}"
