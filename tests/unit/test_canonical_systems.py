"""This module tests that code systems and registers are known by every name that senders give them."""

import pytest

from broker.canonical.systems import code_system_name, code_system_uri, identifier_uri


@pytest.mark.parametrize(
    ("system", "uri", "name"),
    [
        ("LN", "http://loinc.org", "LN"),
        ("loinc", "http://loinc.org", "LN"),
        ("urn:oid:2.16.840.1.113883.6.1", "http://loinc.org", "LN"),
        ("2.16.840.1.113883.6.96", "http://snomed.info/sct", "SCT"),
        ("I10", "http://hl7.org/fhir/sid/icd-10-cm", "I10"),
        ("CVX", "http://hl7.org/fhir/sid/cvx", "CVX"),
        ("RXNORM", "http://www.nlm.nih.gov/research/umls/rxnorm", "RXNORM"),
        ("UCUM", "http://unitsofmeasure.org", "UCUM"),
        ("HL70063", "http://terminology.hl7.org/CodeSystem/v2-0063", "HL70063"),
        ("0063", "http://terminology.hl7.org/CodeSystem/v2-0063", "HL70063"),
        ("2.16.840.1.113883.12.63", "http://terminology.hl7.org/CodeSystem/v2-0063", "HL70063"),
        ("1.2.3.4", "urn:oid:1.2.3.4", "urn:oid:1.2.3.4"),
        ("http://x.org/codes", "http://x.org/codes", "http://x.org/codes"),
        ("99LAB", "99LAB", "99LAB"),
        ("My lab", "My%20lab", "My lab"),
        ("L", "", "L"),
        ("", "", ""),
    ],
)
def test_code_system_has_a_uri_and_a_name(system: str, uri: str, name: str) -> None:
    assert code_system_uri(system) == uri
    assert code_system_name(system) == name
    if uri and "%" not in uri:
        assert code_system_uri(uri) == uri
        assert code_system_name(uri) == name


@pytest.mark.parametrize(
    ("system", "kind", "value", "uri"),
    [
        ("SSA", "SS", "123-45-6789", "http://hl7.org/fhir/sid/us-ssn"),
        ("", "SS", "123456789", "http://hl7.org/fhir/sid/us-ssn"),
        ("", "SS", "19620910-1234", ""),
        ("MERCY", "SS", "123456789", "MERCY"),
        ("NPI", "", "1720051234", "http://hl7.org/fhir/sid/us-npi"),
        ("NPI", "NPI", "77", "NPI"),
        ("urn:oid:2.16.840.1.113883.4.6", "", "77", "http://hl7.org/fhir/sid/us-npi"),
        ("SSA", "MR", "123456789", "SSA"),
        ("", "MR", "123456789", ""),
    ],
)
def test_number_is_of_a_register_only_where_it_says_so_and_looks_like_one(
    system: str, kind: str, value: str, uri: str
) -> None:
    assert identifier_uri(system, kind, value) == uri
