"""This module puts consent in front of destinations that reach people, and checks where it is asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from config.channel import DeliverPlan, Draft
from config.findings import Finding
from config.marks import Keys, Marks, show
from dispatch.consent import ConsentRenderer

if TYPE_CHECKING:
    from broker.parts import Destination, Renderer, Tools

_STORE: Final = "prm"
_MAKES_EVENTS: Final = frozenset({"canonical", "script"})


def ask_for_consent(plan: DeliverPlan, renderer: "Renderer") -> "Renderer":
    """Return what renders a destination's requests, with whose consent they need where that is asked for."""
    return renderer if plan.sending.consent is None else ConsentRenderer(renderer)


def guard_by_consent(plan: DeliverPlan, destination: "Destination", tools: "Tools") -> "Destination":
    """Return a destination that sends what patients agreed to; one that reaches nobody as it is."""
    from dispatch.consent_gate import ConsentGate  # noqa: PLC0415 - neither settings nor workers ask anybody
    from dispatch.patients.consents import Consents  # noqa: PLC0415 - as above

    if plan.spec.medium is None:
        return destination
    consent = plan.sending.consent
    medium = (consent.medium if consent is not None else None) or plan.spec.medium
    return ConsentGate(destination, consent, medium, Consents(str(tools.settings.patients)))


def check_consents(draft: Draft, marks: Marks) -> Iterator[Finding]:
    """Give what is wrong with the consents that a channel's destinations ask for."""
    for plan in draft.deliver:
        if plan.sending.consent is None:
            continue
        keys: Keys = ("deliver", plan.name, "consent")
        yield from _medium(plan, keys, marks)
        if _MAKES_EVENTS.isdisjoint(step.kind for step in draft.steps):
            text = f"{show(keys)} needs an event, which says whose consent it is"
            yield marks.key(keys).finding("E313", text, "add a `canonical` step")
        stores = [other.name for other in draft.deliver if other.kind == _STORE]
        if stores and plan.after not in stores:
            text = f"{show(keys)}: it may be sent before {stores[0]} knows what this message says of consent"
            yield marks.key(keys).finding("E314", text, f"add `after: {stores[0]}` beside it", "warning")


def _medium(plan: DeliverPlan, keys: Keys, marks: Marks) -> Iterator[Finding]:
    own, asked = plan.spec.medium, plan.sending.consent.medium if plan.sending.consent is not None else None
    if own is None:
        text = f"{show(keys)}: {plan.kind} reaches no person; consent is for sms, email and http"
        yield marks.key(keys).finding("E313", text, "remove `consent`")
    elif not own and asked is None:
        text = f'{show(keys)} needs the key "medium": {plan.kind} does not say how it reaches the patient'
        yield marks.key(keys).finding("E313", text, "write sms, email, phone, push or post")
    elif own and asked not in {None, own}:
        text = f"{show(keys)}: {plan.kind} reaches people by {own}, not by {asked}"
        yield marks.value((*keys, "medium")).finding("E313", text, "remove `medium`")
