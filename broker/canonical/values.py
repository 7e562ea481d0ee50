"""This module holds the small values that the canonical model is made of: codes, names, addresses, people, places.

Names follow FHIR R4. ``None`` and empty mean *not said*; see `broker.canonical.model`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """A name that some authority gave: ``system`` is the assigning authority (as sent: namespace, or urn:oid:…)."""

    value: str
    system: str = ""
    type: str = ""  # HL7 table 0203: MR, SS, AN, VN …


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """One code of one code system: ``system`` as sent (``LN``, ``I10``, a URI)."""

    code: str
    system: str = ""
    display: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """Something that is coded, or only named: FHIR CodeableConcept with its first coding unfolded."""

    code: str | None = None
    system: str = ""  # of ``code``, as sent
    text: str | None = None
    alternates: tuple[Coding, ...] = ()  # the same in other code systems
    display: str | None = None  # the name of ``code``, where ``text`` has the sender's own words instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A person's name; ``use`` is FHIR NameUse."""

    family: str | None = None
    given: tuple[str, ...] = ()
    prefix: str | None = None
    suffix: str | None = None
    use: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telecom:
    """A way to reach a person: FHIR ContactPoint."""

    value: str
    system: str = "phone"  # phone, email, fax, pager, url, sms, other
    use: str | None = None  # home, work, temp, old, mobile


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A postal address; ``lines`` in the order of an envelope."""

    lines: tuple[str, ...] = ()
    city: str | None = None
    district: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    use: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in the hospital: PV1-3 and its like."""

    facility: str | None = None
    building: str | None = None
    point_of_care: str | None = None
    room: str | None = None
    bed: str | None = None
    status: str | None = None  # of the bed, HL7 table 0116: O occupied, U unoccupied, H housekeeping …


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A company, clinic or payer."""

    name: str | None = None
    identifier: Identifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Practitioner:
    """Somebody who treats, or works here: identifier and name as sent."""

    identifier: Identifier | None = None
    family: str | None = None
    given: str | None = None
    identifiers: tuple[Identifier, ...] = ()  # all of them, where a message tells about the person (MFN)
    prefix: str | None = None
    suffix: str | None = None
    role: str | None = None  # what they do here, as sent: HL7 table 0443 or text
    specialty: Concept | None = None
    telecom: tuple[Telecom, ...] = ()
    addresses: tuple[Address, ...] = ()
    active: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedPerson:
    """Next of kin, guarantor, guardian, contact: FHIR RelatedPerson."""

    identifiers: tuple[Identifier, ...] = ()
    names: tuple[Name, ...] = ()
    relationship: Concept | None = None  # HL7 table 0063 or FHIR's codes, as sent
    role: str | None = None  # next-of-kin, emergency, guarantor, employer, subscriber, contact
    birth_date: str | None = None
    sex: str | None = None
    telecom: tuple[Telecom, ...] = ()
    addresses: tuple[Address, ...] = ()
    organization: Organization | None = None  # where the contact is a company
    starts_at: str | None = None
    ends_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file or text that came inside a message; ``data`` is base64 where ``encoding`` says so, else text."""

    content_type: str | None = None
    encoding: str | None = None  # base64, or None: text
    data: str | None = None
    url: str | None = None
    title: str | None = None
    size: int | None = None  # bytes, decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A pointer to something that is told elsewhere: ``type`` is FHIR's resource name."""

    type: str = ""
    id: str = ""  # as sent: Patient/123, urn:uuid:…
    identifier: Identifier | None = None
    display: str | None = None
