"""This module maps FHIR R4 resources and Bundles to canonical events."""

from collections.abc import Hashable, Iterable
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple, NoReturn

from broker.canonical.model import Event, Patient, Source
from broker.errors import StepError
from broker.fhir.elements import is_resource
from transforms.fhir_pool import Pool, Reader, addressed
from transforms.fhir_types import NOTHING, Node, identifier, node, nodes, text
from transforms.map_fhir_events import (
    PARTS,
    VERSION,
    WITHOUT_PATIENT,
    Told,
    Untold,
    event_of,
    has_subject,
    subjects_of,
)
from transforms.map_fhir_people import referred_patient
from transforms.map_fhir_results import reported

# What leads where several resources about one patient are told as one event, the most telling first.
_LEADING: Final = (
    "summary", "appointment", "referral", "document", "result", "order", "medication", "immunization", "encounter",
    "consent", "communication", "allergy", "condition", "observation", "coverage", "related_person", "patient", "staff",
)  # fmt: skip
_FIRST: Final = {"Patient": 0, "RelatedPerson": 1, "Coverage": 1, "Encounter": 2}  # people before what happened to them
_METHODS: Final = {
    "DELETE": 0,
    "POST": 1,
    "PUT": 2,
    "PATCH": 2,
}  # the order in a transaction (FHIR R4, http.html#trules)
_ALONE: Final = frozenset({"patient.merged", "patient.deleted"})
_LISTS: Final = tuple(field.name for field in fields(Event) if field.default == () and field.name != "cleared")
_SINGLES: Final = ("appointment", "referral", "document", "consent", "communication")


class Entry(NamedTuple):
    """One entry of a Bundle: what is in it, and what is to be done with it."""

    place: str
    resource: Node
    url: str
    method: str
    target: str  # the address of the request
    at: str | None
    beside: bool  # came along with what was searched for

    @property
    def kind(self) -> str:
        """The type of what it is about."""
        return str(self.resource.get("resourceType") or addressed(self.target, "").kind)


def map_fhir(resource: Node, *, base: str = "") -> Event:
    """Return the one event that a resource tells, or a Bundle about one patient.

    ``base`` is the address of the sender's server; where neither it nor a whole URL is known, a patient of whom only
    the server's own id is said has no ``mrn``. Raises `StepError` with the path, as for a Bundle that tells several
    things that are no one event; `map_bundle` tells them apart.
    """
    kind = str(resource.get("resourceType"))
    if kind == "Bundle":
        return _one(map_bundle(resource, base=base))
    if kind not in PARTS:
        named = kind if is_resource(kind) else "this resource"
        raise StepError(f"{named} tells nothing about a patient; filter it out before", step="canonical")
    pool = Pool(base)
    pool.add(resource)
    return event_of(Reader(pool, resource), resource, Told())


def map_resource(resource: Node, *, base: str = "") -> list[Event]:
    """Return what a resource tells: an event, or those of a Bundle."""
    if resource.get("resourceType") == "Bundle":
        return map_bundle(resource, base=base)
    return [map_fhir(resource, base=base)]


def map_bundle(bundle: Node, *, base: str = "") -> list[Event]:
    """Return the events that a Bundle tells, in the order in which they are to take effect.

    A document is one event. Otherwise each resource that has a meaning here is one, references among them followed;
    what came along only to be referred to (places, organizations, observations of a report) is none of its own.
    Raises `StepError` with the path for an entry that says something which no event can tell.
    """
    kind = text(bundle, "type") or ""
    entries = entries_of(bundle)
    if kind == "history":
        entries.reverse()  # the newest comes first there
    elif kind != "batch":
        entries.sort(key=lambda entry: (_METHODS.get(entry.method, 0), _FIRST.get(entry.kind, 3)))
    pool = pool_of(entries, kind, base)
    told = Told(source=_source(bundle, entries), sent_at=text(bundle, "timestamp"))
    if kind == "document":
        return [_summary(pool, entries, told)]
    inside = _inside(pool, entries)
    told_apart = (_event(pool, entry, told) for entry in entries if id(entry.resource) not in inside)
    return _once(event for event in told_apart if event is not None)


def entries_of(bundle: Node) -> list[Entry]:
    """Return the entries of a Bundle, in its order."""
    return [_entry(each, f"Bundle.entry[{index}]") for index, each in enumerate(nodes(bundle, "entry"))]


def pool_of(entries: Iterable[Entry], kind: str, base: str = "") -> Pool:
    """Return the resources of a Bundle of a type, where references among them can be followed."""
    pool = Pool(base)
    for entry in entries:
        pool.add(entry.resource, entry.url, created=entry.method == "POST" and kind != "history")
    return pool


def _entry(entry: Node, place: str) -> Entry:
    request, response = node(entry, "request"), node(entry, "response")
    return Entry(
        place=place,
        resource=node(entry, "resource"),
        url=text(entry, "fullUrl") or "",
        method=text(request, "method") or "",
        target=text(request, "url") or "",
        at=text(response, "lastModified"),
        beside=text(node(entry, "search"), "mode") in {"include", "outcome"},
    )


def _source(bundle: Node, entries: list[Entry]) -> Source:
    """Return where a Bundle came from, as its MessageHeader says it."""
    header = next((each.resource for each in entries if each.kind == "MessageHeader"), NOTHING)
    sender, known = node(header, "source"), identifier(node(bundle, "identifier"))
    return Source(
        application=text(sender, "name") or text(sender, "endpoint") or "",
        facility=text(node(header, "sender"), "display") or text(node(header, "responsible"), "display") or "",
        control_id=known.value if known else text(bundle, "id") or text(header, "id") or "",
        version=VERSION,
    )


def _inside(pool: Pool, entries: list[Entry]) -> set[int]:
    """Return which Observations are told by a report that came along."""
    reports = [each.resource for each in entries if each.kind == "DiagnosticReport"]
    return {id(found) for report in reports for found in reported(Reader(pool, report), report)}


def _event(pool: Pool, entry: Entry, told: Told) -> Event | None:
    """Return what an entry tells, or nothing where it only reads, came along, or is about no patient."""
    told = told._replace(place=f"{entry.place}.resource", method=entry.method, at=entry.at)
    if entry.method == "DELETE":
        return _removed(pool, entry, told)
    if entry.method == "PATCH":
        _refuse_patch(entry)
    if entry.kind not in PARTS or entry.beside or not entry.resource:
        return None
    try:
        return event_of(Reader(pool, entry.resource), entry.resource, told)
    except Untold:
        return None


def _removed(pool: Pool, entry: Entry, told: Told) -> Event | None:
    """Return the event of a DELETE, which names no more than what is gone."""
    target = addressed(entry.target, pool.base)
    if target.kind not in PARTS:
        return None
    if target.kind != "Patient":
        _fail(f"{entry.place}.request", f"a DELETE of {target.kind} names no patient, so no event can tell it")
    return Event(
        kind="patient.deleted",
        source=replace(told.source, message_type="Patient"),
        patient=referred_patient(target.known),
        occurred_at=told.at or told.sent_at,
    )


def _refuse_patch(entry: Entry) -> None:
    """Refuse a PATCH of what has a meaning here: it says what changes, and not what is."""
    if addressed(entry.target, "").kind in PARTS:
        _fail(f"{entry.place}.request", "a PATCH says only what changes; send the whole resource with PUT")


def _fail(place: str, what: str) -> NoReturn:
    raise StepError(f"{place}: {what}", step="canonical", location=place)


def _once(events: Iterable[Event]) -> list[Event]:
    """Return the events, a merge that both records tell only once."""
    merges: set[Any] = set()
    kept = []
    for event in events:
        if event.merge:
            pair = (event.patient.mrn, event.merge.mrn)
            if pair in merges:
                continue
            merges.add(pair)
        kept.append(event)
    return kept


def _summary(pool: Pool, entries: list[Entry], told: Told) -> Event:
    """Return the one event of a document: its Composition, with everything that the document holds."""
    head = next((each for each in entries if each.kind == "Composition"), None)
    if head is None:
        _fail("Bundle.entry[0].resource", "a document begins with a Composition, and there is none")
    main = event_of(Reader(pool, head.resource), head.resource, told._replace(place=f"{head.place}.resource"))
    inside = _inside(pool, entries)
    others = []
    for entry in entries:
        if entry is head or id(entry.resource) in inside or entry.kind not in PARTS:
            continue
        reader = Reader(pool, entry.resource)
        if _is_about(main.patient, reader, entry, told._replace(place=f"{entry.place}.resource")):
            others.append(PARTS[entry.kind](reader, entry.resource))
    return _joined(main, others)


def _is_about(patient: Patient, reader: Reader, entry: Entry, told: Told) -> bool:
    """Tell whether an entry of a document says something of its patient.

    What has no subject is the document's own (FHIR R4, documents.html#content). Another Patient came along to be
    referred to. Raises `StepError` for anything else that is about another patient: it belongs into no chart here.
    """
    named_elsewhere = entry.kind in {"Patient", "Appointment"}
    if entry.kind in WITHOUT_PATIENT or not (named_elsewhere or has_subject(reader, entry.resource)):
        return True
    try:
        subjects = subjects_of(reader, entry.resource, told)
    except Untold:
        return False
    if key_of(patient) in {key_of(each) for each in subjects}:
        return True
    if entry.kind != "Patient":
        _fail(told.place, f"this {entry.kind} is about another patient than the document; send it outside the document")
    return False


def key_of(patient: Patient) -> Hashable:
    """Return what makes two patients of one Bundle the same: the record's number, else all that is known."""
    return (patient.mrn.system, patient.mrn.value) if patient.mrn else patient


def _one(events: list[Event]) -> Event:
    """Return several events about one patient as one; raise `StepError` where that would lose something."""
    if len(events) == 1:
        return events[0]
    if not events:
        _fail("Bundle", "nothing in it tells anything about a patient; filter it out before")
    if len({key_of(event.patient) for event in events if event.kind != "staff.updated"}) > 1:
        _fail("Bundle", "it tells of several patients; split it before")
    twice = any(sum(getattr(event, name) is not None for event in events) > 1 for name in _SINGLES)
    if twice or any(event.kind in _ALONE for event in events):
        _fail("Bundle", "it tells of several slots, documents or merges of one patient; send each by itself")
    main = min(events, key=lambda event: _LEADING.index(event.kind.partition(".")[0]))
    fullest = max((main, *events), key=lambda event: len(event.patient.names))  # one may know no more than a reference
    others = [{field: getattr(event, field) for field in (*_LISTS, *_SINGLES, "encounter")} for event in events]
    said = [other for other, event in zip(others, events, strict=True) if event is not main]
    return replace(_joined(main, said), patient=fullest.patient)


def _joined(main: Event, others: list[dict[str, Any]]) -> Event:
    """Return an event with what others say beside it."""
    said: list[dict[str, Any]] = [{field: getattr(main, field) for field in (*_LISTS, *_SINGLES, "encounter")}, *others]
    joined: dict[str, Any] = {
        field: tuple(dict.fromkeys(item for parts in said for item in parts.get(field) or ())) for field in _LISTS
    }
    for field in (*_SINGLES, "encounter"):
        joined[field] = next((parts[field] for parts in said if parts.get(field)), None)
    return replace(main, **joined)
