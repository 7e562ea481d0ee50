"""This module builds what was read: channels for the engine, and for a worker process what it runs over messages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from broker.channel import Channel, RoutePlan
from broker.errors import StepError
from broker.formats.reading import Format, Index, no_index
from broker.ids import DELIVERIES
from broker.message import Document
from broker.notices import Notice
from broker.parts import Intake, Marks, Tools
from broker.pressure import Pressure
from config.channel import ChannelPlan, DeliverPlan, PurePlan, load_pure
from config.consenting import ask_for_consent, guard_by_consent
from config.presets import load_presets
from config.profiles import load_profile
from config.program import Compiled, Exit, Program
from config.viewing import Viewer
from transforms.kit import Kit
from transforms.several import Split
from transforms.split_bundle import split_bundle
from transforms.split_cda import split_cda
from transforms.split_patients import split_patients

if TYPE_CHECKING:
    from config.settings import Settings  # a worker process has none

# Format -> what takes its messages about several patients apart.
_SPLITS: Final[dict[str, Split]] = {"hl7": split_patients, "fhir": split_bundle, "cda": split_cda}
_CANONICAL: Final = "canonical"


def build_program(tree: dict[str, Any], folder: Path, presets: Mapping[str, Any] | None = None) -> Program:
    """Build the pure half of a channel: steps, conditions and renderers. Raises `ConfigError` or `ExpressionError`.

    ``presets`` are what is known of the systems that it names, as their files have it.
    """
    return _build_pure(tree, folder, presets)[0]


def build_viewer(
    tree: dict[str, Any], folder: Path, presets: Mapping[str, Any] | None, wanted: Sequence[str]
) -> Viewer:
    """Build the pure half of a channel for who looks at single messages, and expressions over what its steps leave.

    Raises `ConfigError` or `ExpressionError`.
    """
    program, kit = _build_pure(tree, folder, presets)
    return Viewer(program, {text: kit.expression(text) for text in wanted})


def content_of(plan: ChannelPlan, folder: Path, wanted: Sequence[str] | None = None) -> str:
    """Return what a worker process builds a program from; with ``wanted``, a `Viewer` for these expressions."""
    found = {"channel": plan.tree, "folder": str(folder), "presets": plan.presets}
    return orjson.dumps(found if wanted is None else found | {"wanted": list(wanted)}).decode()


def _build_pure(tree: dict[str, Any], folder: Path, presets: Mapping[str, Any] | None) -> tuple[Program, Kit]:
    plan = load_pure(tree)
    form = plan.format.spec.build(plan.charset)
    kit = Kit(folder, form, load_profile, load_presets(presets or {}))
    steps = [(step.name, step.spec.build(kit)) for step in plan.steps]
    order = kit.expression(plan.order) if plan.order is not None else None
    exits = [_exit(kit, deliver, plan.deliver) for deliver in plan.deliver]
    of_whole = frozenset(step.name for step in plan.steps if step.spec.of_whole)
    return Program(steps, order, exits, form.document, _split(plan, form), of_whole), kit


def _split(plan: PurePlan, form: Format) -> Split | None:
    """Return what takes messages about several patients apart; who makes no events passes them on as they are."""
    return _SPLITS.get(form.kind) if any(step.kind == _CANONICAL for step in plan.steps) else None


def _exit(kit: Kit, plan: DeliverPlan, every: Sequence[DeliverPlan]) -> Exit:
    when = kit.expression(plan.when) if plan.when is not None else None
    instead = frozenset(place for place, other in enumerate(every) if other.sending.fallback == plan.name)
    render = ask_for_consent(plan, plan.spec.build_renderer(kit))
    return Exit(f"deliver.{plan.name}", when, render, instead)


def build_channels(
    plans: Sequence[ChannelPlan],
    settings: "Settings",
    intake: Intake,
    notify: Callable[[Notice], None],
    pressure: Pressure | None = None,
    marks: Marks | None = None,
) -> list[Channel]:
    """Build channels for the engine. Raises `ConfigError` when a part cannot be built."""
    lent = Tools("", intake, notify, settings, pressure=pressure or Pressure(), marks=marks)
    return [_build_channel(plan, settings, lent) for plan in plans]


def _build_channel(plan: ChannelPlan, settings: "Settings", lent: Tools) -> Channel:
    form = plan.format.spec.build(plan.listen.charset)
    tools = replace(lent, channel=plan.name, format=form, presets=load_presets(plan.presets))
    return Channel(
        name=plan.name,
        revision=plan.revision,
        content=content_of(plan, settings.channels),
        format=form,
        listens=orjson.dumps([plan.tree["listen"], plan.tree.get("format")]).decode(),
        listener=plan.listen.spec.build(tools),
        index=build_index(plan, Kit(settings.channels, form)),
        routes=tuple(_route(deliver, tools) for deliver in plan.deliver),
    )


def _route(plan: DeliverPlan, tools: Tools) -> RoutePlan:
    destination = plan.spec.build(tools)
    return RoutePlan(
        name=plan.name,
        destination=guard_by_consent(plan, destination, tools),
        policy=plan.retry,
        after=plan.after,
        on_dead=plan.on_dead,
        # What depends on the system that a destination talks to, only the destination itself can say.
        unknown=plan.unknown or getattr(destination, "unknown", "hold"),
        batch=getattr(destination, "batch", plan.spec.batch),
        concurrency=plan.sending.concurrency or int(getattr(plan.spec, "concurrency", 1)),
        rate=plan.sending.rate.rate() if plan.sending.rate is not None else None,
        breaker=plan.sending.breaker.policy(),
        fallback=plan.sending.fallback,
        held=plan.sending.hold,
        quiet=quiet.hours(quiet.zone) if (quiet := plan.sending.quiet_hours) is not None else None,
    )


def build_index(plan: ChannelPlan, kit: Kit) -> Index:
    """Build what reads the index values of a message."""
    if not plan.index:
        return no_index
    wanted = [(name, kit.expression(text)) for name, text in plan.index.items()]
    split = _SPLITS.get(kit.format.kind)
    if split is not None:
        return lambda document: _values(wanted, _documents(document, split))
    return lambda document: _values(wanted, (document,))


def _values(wanted: Sequence[tuple[str, Compiled]], documents: Sequence[Document]) -> list[tuple[str, str]]:
    values = ((name, _value(expression, document)) for document in documents for name, expression in wanted)
    return list(dict.fromkeys(pair for pair in values if pair[1]))


def _documents(document: Document, split: Split) -> Sequence[Document]:
    """Return a message as it is, or a document for each of its patients: it is to be found by all of them."""
    try:
        parts = split(document.message, DELIVERIES)
    except StepError:
        return (document,)  # it will fail, and is kept all the same
    return [part.document(document) for part in parts] or (document,)


def _value(expression: Compiled, document: Document) -> str:
    try:
        value = expression(document)
    except StepError:
        return ""  # a message that lacks what an index wants is kept all the same, and found by its other values
    return "" if value is None else str(value)
