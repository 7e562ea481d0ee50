"""This module says which values of a patient are written, where the model has them twice: as sent, and as understood.

A channel may have mapped ``family``, ``mobile`` or ``mrn`` its own way; what it says stands beside what was sent.
"""

from dataclasses import replace

from broker.canonical.model import Identifier, Name, Patient, Telecom


def names_of(given: Patient) -> tuple[Name, ...]:
    """Return the patient's names, with family and given name as the event has them in the end."""
    names, family, first = given.names, given.family, given.given
    if family is None and first is None:
        return names
    for name in names:
        if name.family == family and (name.given[0] if name.given else None) == first:
            return names
    own = (first,) if first else ()
    if not names:
        return (Name(family=family, given=own),)
    return (replace(names[0], family=family, given=own + names[0].given[1:]), *names[1:])


def numbers_of(given: Patient) -> tuple[Identifier, ...]:
    """Return the patient's identifiers; a record number that was not sent among them comes first."""
    mrn, numbers = given.mrn, given.identifiers
    return numbers if mrn is None or mrn in numbers else (mrn, *numbers)


def telecom_of(given: Patient) -> tuple[Telecom, ...]:
    """Return where to reach the patient, with what only a channel's own mapping knows at the end."""
    points = given.telecom
    if given.mobile and not any(point.use == "mobile" for point in points):
        points = (*points, Telecom(value=given.mobile, use="mobile"))
    if given.email and not any(point.system == "email" for point in points):
        points = (*points, Telecom(value=given.email, system="email"))
    return points
