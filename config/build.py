"""This module builds what was read: channels for the engine, and for a worker process what it runs over messages."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from broker.channel import Channel, RoutePlan
from broker.errors import StepError
from broker.formats.reading import Index, no_index
from broker.message import Document
from broker.notices import Notice
from broker.parts import Intake, Tools
from config.channel import ChannelPlan, DeliverPlan, load_channel
from config.profiles import load_profile
from config.program import Compiled, Exit, Program
from config.settings import Settings
from transforms.kit import Kit


def build_program(tree: dict[str, Any], folder: Path) -> Program:
    """Build the pure half of a channel: steps, conditions and renderers. Raises `ConfigError` or `ExpressionError`."""
    plan = load_channel(tree)
    form = plan.format.build(plan.listen)
    kit = Kit(folder, form, load_profile)
    steps = [(step.name, step.spec.build(kit)) for step in plan.steps]
    order = kit.expression(plan.order) if plan.order is not None else None
    return Program(steps, order, [_exit(kit, deliver) for deliver in plan.deliver], form.document)


def _exit(kit: Kit, plan: DeliverPlan) -> Exit:
    when = kit.expression(plan.when) if plan.when is not None else None
    return Exit(f"deliver.{plan.name}", when, plan.spec.build_renderer(kit))


def build_channels(
    plans: Sequence[ChannelPlan], settings: Settings, intake: Intake, notify: Callable[[Notice], None]
) -> list[Channel]:
    """Build channels for the engine. Raises `ConfigError` when a part cannot be built."""
    return [_build_channel(plan, settings, intake, notify) for plan in plans]


def _build_channel(plan: ChannelPlan, settings: Settings, intake: Intake, notify: Callable[[Notice], None]) -> Channel:
    form = plan.format.build(plan.listen)
    tools = Tools(plan.name, intake, notify, settings, form)
    return Channel(
        name=plan.name,
        revision=plan.revision,
        content=orjson.dumps({"channel": plan.tree, "folder": str(settings.channels)}).decode(),
        format=form,
        listens=orjson.dumps([plan.tree["listen"], plan.tree.get("format")]).decode(),
        listener=plan.listen.spec.build(tools),
        index=build_index(plan, Kit(settings.channels, form)),
        routes=tuple(_route(deliver, tools) for deliver in plan.deliver),
    )


def _route(plan: DeliverPlan, tools: Tools) -> RoutePlan:
    return RoutePlan(
        name=plan.name,
        destination=plan.spec.build(tools),
        policy=plan.retry,
        after=plan.after,
        on_dead=plan.on_dead,
        unknown=plan.unknown,
        batch=plan.spec.batch,
        concurrency=getattr(plan.spec, "concurrency", 1),
    )


def build_index(plan: ChannelPlan, kit: Kit) -> Index:
    """Build what reads the index values of a message."""
    if not plan.index:
        return no_index
    wanted = [(name, kit.expression(text)) for name, text in plan.index.items()]

    def index(document: Document) -> list[tuple[str, str]]:
        values = ((name, _value(expression, document)) for name, expression in wanted)
        return [(name, value) for name, value in values if value]

    return index


def _value(expression: Compiled, document: Document) -> str:
    try:
        value = expression(document)
    except StepError:
        return ""  # a message that lacks what an index wants is kept all the same, and found by its other values
    return "" if value is None else str(value)
