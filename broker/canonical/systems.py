"""This module knows code systems and identifier systems by the names that HL7 v2 gives them and by their URIs.

HL7 v2 says ``LN`` (table 0396) where FHIR says ``http://loinc.org`` and CDA ``2.16.840.1.113883.6.1``. A name that is
none of these is local to its sender: it stays what it is, percent-encoded where FHIR's uri allows no such character.
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

TABLES: Final = "http://terminology.hl7.org/CodeSystem/v2-"  # followed by four digits, such as 0203
SSN: Final = "http://hl7.org/fhir/sid/us-ssn"
NPI: Final = "http://hl7.org/fhir/sid/us-npi"
UCUM: Final = "http://unitsofmeasure.org"
URIS: Final = "urn:ietf:rfc:3986"  # the system of identifiers that are URIs themselves

# URI -> names of HL7 table 0396 and what senders write instead, the one to write first; then the OID.
_SYSTEMS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "http://loinc.org": (("LN", "LOINC", "LNC"), "2.16.840.1.113883.6.1"),
    "http://snomed.info/sct": (("SCT", "SNOMED", "SNOMED-CT", "SNOMEDCT", "SCT2"), "2.16.840.1.113883.6.96"),
    "http://hl7.org/fhir/sid/icd-10-cm": (("I10", "I10C", "ICD10", "ICD-10", "ICD10CM"), "2.16.840.1.113883.6.90"),
    "http://www.cms.gov/Medicare/Coding/ICD10": (("I10P", "ICD10PCS"), "2.16.840.1.113883.6.4"),
    "http://hl7.org/fhir/sid/icd-10": (("ICD-10-WHO",), "2.16.840.1.113883.6.3"),
    "http://hl7.org/fhir/sid/icd-9-cm": (("I9C", "I9", "I9CDX", "ICD9", "ICD-9", "ICD9CM"), "2.16.840.1.113883.6.103"),
    "http://hl7.org/fhir/sid/cvx": (("CVX",), "2.16.840.1.113883.12.292"),
    "http://hl7.org/fhir/sid/mvx": (("MVX",), "2.16.840.1.113883.12.227"),
    "http://hl7.org/fhir/sid/ndc": (("NDC",), "2.16.840.1.113883.6.69"),
    "http://www.nlm.nih.gov/research/umls/rxnorm": (("RXNORM", "RXN"), "2.16.840.1.113883.6.88"),
    "http://www.ama-assn.org/go/cpt": (("C4", "CPT", "CPT4", "CPT-4"), "2.16.840.1.113883.6.12"),
    "http://terminology.hl7.org/CodeSystem/HCPCS-all-codes": (("HCPCS", "HPC"), "2.16.840.1.113883.6.285"),
    UCUM: (("UCUM",), "2.16.840.1.113883.6.8"),
    "urn:oid:2.16.840.1.113883.6.238": (("CDCREC",), "2.16.840.1.113883.6.238"),
    "http://nucc.org/provider-taxonomy": (("NUCC", "NUCCPT"), "2.16.840.1.113883.6.101"),
    "http://fdasis.nlm.nih.gov": (("UNII",), "2.16.840.1.113883.4.9"),
    "http://www.whocc.no/atc": (("ATC",), "2.16.840.1.113883.6.73"),
    "http://dicom.nema.org/resources/ontology/DCM": (("DCM",), "1.2.840.10008.2.16.4"),
    "urn:iso:std:iso:3166": (("ISO3166_1", "ISO3166"), "1.0.3166.1.2.2"),
    "urn:ietf:bcp:47": (("BCP47",), "2.16.840.1.113883.6.121"),
}
_URI_OF_NAME: Final = {name: uri for uri, (names, _) in _SYSTEMS.items() for name in names}
_URI_OF_OID: Final = {oid: uri for uri, (_, oid) in _SYSTEMS.items()}
_NAME_OF_URI: Final = {uri: names[0] for uri, (names, _) in _SYSTEMS.items()}

# Assigning authorities that mean a country's register, by what they are called in HL7 v2 and by their OID.
_REGISTERS: Final = {
    SSN: ({"SSA", "USSSA", "USSSN", "SSN"}, "2.16.840.1.113883.4.1"),
    NPI: ({"NPI", "CMS", "NPPES", "USNPI"}, "2.16.840.1.113883.4.6"),
}
_REGISTER_OF_TYPE: Final = {"SS": SSN, "NPI": NPI}  # HL7 table 0203
_NUMBER: Final = {SSN: re.compile(r"\d{3}-?\d{2}-?\d{4}", re.ASCII), NPI: re.compile(r"[12]\d{9}", re.ASCII)}

_TABLE: Final = re.compile(r"(?:HL7[- ]?|v2-)?(\d{4})\Z", re.ASCII | re.IGNORECASE)
_TABLE_OID: Final = re.compile(r"2\.16\.840\.1\.113883\.12\.(\d{1,4})\Z", re.ASCII)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+\Z", re.ASCII)
_OID: Final = re.compile(r"[0-2](\.\d+)+\Z", re.ASCII)
_LOCAL: Final = frozenset({"L", "LOCAL", "99"})  # HL7 table 0396: some code of the sender's; names no system


@lru_cache(maxsize=4096)
def code_system_uri(system: str) -> str:
    """Return a code system, by whatever name, as FHIR writes it; empty where it names none."""
    name = system.strip()
    upper = name.upper()
    if not name or upper in _LOCAL:
        return ""
    if upper in _URI_OF_NAME:
        return _URI_OF_NAME[upper]
    oid = name.removeprefix("urn:oid:")
    if oid in _URI_OF_OID:
        return _URI_OF_OID[oid]
    table = _TABLE.match(name) or _TABLE_OID.match(oid)
    if table:
        return f"{TABLES}{table[1]:0>4}"
    return as_uri(name)


@lru_cache(maxsize=4096)
def code_system_name(system: str) -> str:
    """Return a code system, by whatever name, as HL7 v2 writes it; a URI that has no such name stays what it is."""
    uri = code_system_uri(system)
    if not uri:
        return system
    if uri.startswith(TABLES):
        return f"HL7{uri.removeprefix(TABLES)}"
    return _NAME_OF_URI.get(uri) or unquote(uri)


def identifier_uri(system: str, kind: str = "", value: str = "") -> str:
    """Return an assigning authority as FHIR writes it; ``kind`` is of HL7 table 0203.

    A number of social security or of a provider counts as of the US register where its authority says so by a usual
    name, or nothing, and it looks like one.
    """
    uri, register = _authority(system, kind)
    return register if register and _NUMBER[register].fullmatch(value) else uri


@lru_cache(maxsize=4096)
def _authority(system: str, kind: str) -> tuple[str, str]:
    """Return the uri of an authority, and the register that it may mean."""
    ours = _REGISTER_OF_TYPE.get(kind, "")
    for uri, (names, oid) in _REGISTERS.items():
        if system in {f"urn:oid:{oid}", oid}:
            return uri, ""
        if system.upper() in names and ours in {uri, ""}:
            return as_uri(system), uri
    return as_uri(system), "" if system else ours


@lru_cache(maxsize=4096)
def as_uri(name: str) -> str:
    """Return a name as a uri: ``urn:oid:…`` for an OID, a URI as it is, any other without blanks."""
    name = name.strip()
    if _OID.match(name):
        return f"urn:oid:{name}"
    return name if _ABSOLUTE.match(name) else quote(name, safe="!$&'()*+,;=:@/-._~")
