"""This module maps who belongs to a patient (NK1, GT1) to related people, and who does what for them (ROL)."""

from typing import Final

from broker.canonical.model import Address, Identifier, Name, Organization, Practitioner, RelatedPerson, Telecom
from broker.wire.er7 import Message
from transforms.hl7_codes import day_of, first_concept, organization
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_patient import sex_of

_NK1_FIELDS: Final = 41
_ROL_FIELDS: Final = 4
# HL7 tables 0131 (contact role, NK1-7) and 0063 (relationship, NK1-3) -> role.
_CONTACT_ROLES: Final = {"C": "emergency", "E": "employer", "N": "next-of-kin", "EP": "emergency", "NOK": "next-of-kin"}
_RELATION_ROLES: Final = {"EMC": "emergency", "EMR": "employer", "EME": "employer"}
_WITHDRAWN: Final = frozenset({"DE", "UW"})  # HL7 table 0287: delete, unlink
# HL7 table 0443 -> what the model calls the person.
_ROLES: Final = {
    "PP": "general_practitioner",
    "FHCP": "general_practitioner",
    "AT": "attending",
    "AD": "admitting",
    "RP": "referring",
    "CP": "consulting",
}


def related_people(message: Message) -> tuple[RelatedPerson, ...]:
    """Return next of kin, contacts and guarantors, in the order in which they were sent."""
    kin, guarantors = message.texts("NK1"), message.texts("GT1")
    if not kin and not guarantors:
        return ()
    return _related_people(reader_of(message), tuple(kin + guarantors), message.separators.field)


@kept
def _related_people(read: Reader, sent: tuple[str, ...], separator: str) -> tuple[RelatedPerson, ...]:
    found = []
    for text in sent:
        fields = padded(text.split(separator), _NK1_FIELDS)
        found.append(_next_of_kin(fields, read) if fields[0] == "NK1" else _guarantor(fields, read))
    return tuple([person for person in found if person is not None])


def _next_of_kin(fields: list[str], read: Reader) -> RelatedPerson | None:
    # NK1-30 to 33 name the person to speak to where the related one is a company.
    return _person(
        identifiers=identifiers(fields[33], read),
        names=names(fields[2] or fields[30], read),
        telecom=telecom(read, (fields[5], "home"), (fields[6], "work"), (fields[40], ""), (fields[31], "")),
        addresses=addresses(fields[4] or fields[32], read),
        organization=organization(read, fields[13]) if fields[13] else None,
        relation=fields[3],
        role=_role(read.first(fields[7]), read.first(fields[3])),
        sex=fields[15],
        born=fields[16],
        period=(fields[8], fields[9]),
        read=read,
    )


def _guarantor(fields: list[str], read: Reader) -> RelatedPerson | None:
    number = read.first(fields[12])
    security = (Identifier(value=number, type="SS"),) if number else ()
    return _person(
        identifiers=identifiers(fields[2], read) + security,
        names=names(fields[3], read),
        telecom=telecom(read, (fields[6], "home"), (fields[7], "work")),
        addresses=addresses(fields[5], read),
        organization=organization(read, fields[21]) if fields[21] else None,
        relation=fields[11],
        role="guarantor",
        sex=fields[9],
        born=fields[8],
        period=(fields[13], fields[14]),
        read=read,
    )


def _person(
    *,
    identifiers: tuple[Identifier, ...],
    names: tuple[Name, ...],
    telecom: tuple[Telecom, ...],
    addresses: tuple[Address, ...],
    organization: Organization | None,
    relation: str,
    role: str,
    sex: str,
    born: str,
    period: tuple[str, str],
    read: Reader,
) -> RelatedPerson | None:
    """Return somebody, or None when nothing says who that is or how to reach them."""
    if not (identifiers or names or telecom or addresses or organization):
        return None
    return RelatedPerson(
        identifiers=identifiers,
        names=names,
        relationship=first_concept(read, relation),
        role=role,
        birth_date=day_of(read, born),
        sex=sex_of(read.first(sex)),
        telecom=telecom,
        addresses=addresses,
        organization=organization,
        starts_at=day_of(read, period[0]),
        ends_at=day_of(read, period[1]),
    )


def _role(contact: str | None, relation: str | None) -> str:
    if contact is not None:
        return _CONTACT_ROLES.get(contact.upper(), "contact")
    return _RELATION_ROLES.get(relation.upper(), "next-of-kin") if relation else "next-of-kin"


def identifiers(field: str, read: Reader) -> tuple[Identifier, ...]:
    """Return every CX of a field that has an id."""
    return tuple([found for part in read.repetitions(field) if (found := read.identifier(part))]) if field else ()


def names(field: str, read: Reader) -> tuple[Name, ...]:
    """Return every XPN of a field that names somebody."""
    return tuple([found for part in read.repetitions(field) if (found := read.name(part))]) if field else ()


def addresses(field: str, read: Reader) -> tuple[Address, ...]:
    """Return every XAD of a field that says something."""
    return tuple([found for part in read.repetitions(field) if (found := read.address(part))]) if field else ()


def telecom(read: Reader, *fields: tuple[str, str]) -> tuple[Telecom, ...]:
    """Return every XTN of fields, each once; a field comes with what it is for where the sender does not say."""
    found = [point for field, use in fields for part in read.repetitions(field) if (point := read.telecom(part, use))]
    return tuple(dict.fromkeys(found))


def roles(message: Message) -> dict[str, tuple[Practitioner, ...]]:
    """Return the people of ROL by what the model calls them (attending, consulting …); other roles are left out."""
    texts = message.texts("ROL")
    if not texts:
        return {}
    return _roles(reader_of(message), tuple(texts), message.separators.field)


@kept
def _roles(read: Reader, texts: tuple[str, ...], separator: str) -> dict[str, tuple[Practitioner, ...]]:
    found: dict[str, list[Practitioner]] = {}
    for text in texts:
        fields = padded(text.split(separator), _ROL_FIELDS)
        name = _ROLES.get((read.first(fields[3]) or "").upper())
        person = read.practitioner(fields[4]) if fields[4] else None
        if name and person and (read.first(fields[2]) or "").upper() not in _WITHDRAWN:
            found.setdefault(name, []).append(person)
    return {name: tuple(people) for name, people in found.items()}
