"""This module maps who pays for a patient (IN1 with its IN2) to coverage."""

from typing import Final

from broker.canonical.model import Coverage, Identifier, Organization
from broker.wire.er7 import Message
from transforms.hl7_codes import day_of, first_concept, organization, whole
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_patient import sex_of

_IN1_FIELDS: Final = 49
_IN2_FIELDS: Final = 72


def coverage(message: Message) -> tuple[Coverage, ...]:
    """Return the insurance plans, in the order in which they were sent."""
    texts = message.texts("IN1")
    if not texts:
        return ()
    separator = message.separators.field
    if message.texts("IN2"):
        texts = [line for line in message.lines() if line.startswith((f"IN1{separator}", f"IN2{separator}"))]
    return _coverage(reader_of(message), tuple(texts), separator)


@kept
def _coverage(read: Reader, sent: tuple[str, ...], separator: str) -> tuple[Coverage, ...]:
    pairs: list[tuple[list[str], list[str]]] = []  # every IN1 with the IN2 that follows it
    for text in sent:
        if text.startswith("IN1"):
            pairs.append((padded(text.split(separator), _IN1_FIELDS), [""] * (_IN2_FIELDS + 1)))
        elif pairs:
            pairs[-1] = (pairs[-1][0], padded(text.split(separator), _IN2_FIELDS))
    return tuple([plan for fields, rest in pairs if (plan := _plan(fields, rest, read))])


def _plan(fields: list[str], rest: list[str], read: Reader) -> Coverage | None:
    plan, payer = first_concept(read, fields[2]), _payer(fields, read)
    policy = read.first(fields[36])
    member = _identifier(fields[49], read) or _identifier(rest[61], read)
    if not (plan or payer or policy or member):
        return None
    name = next((found for part in read.repetitions(fields[16]) if (found := read.name(part))), None)
    authorization = read.first(fields[14])
    return Coverage(
        identifier=Identifier(value=policy) if policy else member,
        payer=payer,
        plan=plan,
        type=first_concept(read, fields[15]),
        group_number=read.first(fields[8]),
        group_name=read.first(fields[9]),
        rank=whole(read.first(fields[22])) or whole(read.first(fields[1])),
        subscriber_id=member.value if member else None,
        subscriber_family=name.family if name else None,
        subscriber_given=name.given[0] if name and name.given else None,
        subscriber_birth_date=day_of(read, fields[18]),
        subscriber_sex=sex_of(read.first(fields[43])),
        # IN1-17 is told from the insured's side, IN2-72 from the patient's; senders fill the former with either.
        relationship=first_concept(read, rest[72]) or first_concept(read, fields[17]),
        starts_at=day_of(read, fields[12]),
        ends_at=day_of(read, fields[13]),
        authorization=Identifier(value=authorization) if authorization else None,
    )


def _payer(fields: list[str], read: Reader) -> Organization | None:
    """Return the insurance company: its name of IN1-4 (else the code of IN1-3), with its id of IN1-3."""
    named = organization(read, fields[4]) if fields[4] else None
    number = _identifier(fields[3], read)
    if named is None and number is None:
        return None
    return Organization(name=named.name if named else None, identifier=number or (named.identifier if named else None))


def _identifier(field: str, read: Reader) -> Identifier | None:
    repetitions = read.repetitions(field)
    return read.identifier(repetitions[0]) if repetitions else None
