"""The data types of CDA: what they say, and what says nothing."""

from typing import Final
from xml.etree.ElementTree import Element

import pytest

from broker.canonical.model import Address, Coding, Concept, Identifier, Name, Practitioner, Telecom
from broker.wire.safe_xml import read_xml
from transforms.cda_types import Narrative, addresses, concept, identifiers, moment, names, practitioner, telecom

NPI: Final = '<id root="2.16.840.1.113883.4.6" extension="1111111112"/>'


def element(inner: str, tag: str = "x") -> Element:
    return read_xml(f'<{tag} xmlns="urn:hl7-org:v3">{inner}</{tag}>'.encode())


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        ('<id root="1.2" extension="7"/>', Identifier(value="7", system="urn:oid:1.2")),
        ('<id root="1.2"/>', Identifier(value="urn:oid:1.2", system="urn:ietf:rfc:3986")),
        ('<id extension="7" assigningAuthorityName="MERCY"/>', Identifier(value="7", system="MERCY")),
        ('<id root="2.16.840.1.113883.4.3.17" extension="7"/>',
         Identifier(value="7", system="urn:oid:2.16.840.1.113883.4.3.17", type="DL")),
        ('<id nullFlavor="UNK" root="1.2" extension="7"/>', None),
        ("<id/>", None),
    ],
)  # fmt: skip
def test_identifier(inner: str, found: Identifier | None) -> None:
    assert identifiers(element(inner)) == ((found,) if found else ())


def test_concept_is_named_by_itself_by_a_translation_or_by_the_narrative() -> None:
    translated = '<translation code="I10" codeSystem="1.9" displayName="Hypertension"/>'
    assert concept(element(translated)) == Concept(
        code="I10", system="urn:oid:1.9", text="Hypertension", alternates=()
    )  # it has no code of its own
    assert concept(element("<originalText>as written</originalText>")) == Concept(text="as written")
    narrative = Narrative(element('<text><item ID="p1">High <b>pressure</b></item><item ID="p2">Asthma</item></text>'))
    pointing = '<originalText><reference value="#{}"/></originalText>'
    assert [concept(element(pointing.format(name)), narrative) for name in ("p1", "p2", "p3")] == [
        Concept(text="High pressure"),
        Concept(text="Asthma"),
        None,
    ]
    assert concept(element(pointing.format("p1"))) is None
    assert concept(element("<originalText/>"), narrative) is None
    assert concept(None) is None
    assert Narrative(element("")).at("#p1") is None
    coded = concept(element(translated, "value"))
    assert coded is not None
    assert Coding(code="I10", system="urn:oid:1.9", display="Hypertension") not in coded.alternates


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        ('<name use="L"><given>Ada</given><family>Testwood</family></name>',
         Name(family="Testwood", given=("Ada",), use="official")),
        ("<name>Ada Testwood</name>", Name(family="Ada Testwood")),
        ('<name use="SRCH"><family>Testwood</family></name>', Name(family="Testwood")),
        ("<name> </name>", None),
        ('<name nullFlavor="MSK"><family>Testwood</family></name>', None),
    ],
)  # fmt: skip
def test_name(inner: str, found: Name | None) -> None:
    assert names(element(inner)) == ((found,) if found else ())


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        ('<telecom value="tel:+1-205" use="WP HP"/>', Telecom(value="+1-205", system="phone", use="work")),
        ('<telecom value="205 1234"/>', Telecom(value="205 1234", system="phone")),
        ('<telecom value="https://x.org"/>', Telecom(value="https://x.org", system="url")),
        ('<telecom value="x-skype:ada"/>', Telecom(value="x-skype:ada", system="phone")),
        ('<telecom value="mailto:"/>', None),
        ('<telecom nullFlavor="UNK"/>', None),
    ],
)
def test_telecom(inner: str, found: Telecom | None) -> None:
    assert telecom(element(inner)) == ((found,) if found else ())


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        ('<addr use="HP"><city>Mobile</city></addr>', Address(city="Mobile", use="home")),
        ("<addr><streetAddressLine>1 Elm St</streetAddressLine></addr>", Address(lines=("1 Elm St",))),
        ("<addr/>", None),
        ('<addr nullFlavor="UNK"><city>Mobile</city></addr>', None),
    ],
)
def test_address(inner: str, found: Address | None) -> None:
    assert addresses(element(inner)) == ((found,) if found else ())


def test_practitioner_needs_a_name_or_a_number() -> None:
    number = Identifier(value="1111111112", system="urn:oid:2.16.840.1.113883.4.6", type="NPI")
    assert practitioner(element(NPI)) == Practitioner(identifier=number, identifiers=(number,))
    called = practitioner(element("<assignedPerson><name><family>Seven</family></name></assignedPerson>"))
    assert called == Practitioner(family="Seven")
    assert practitioner(element("<assignedPerson/>")) is None
    assert practitioner(None) is None


def test_time_is_a_point_or_where_a_period_begins() -> None:
    assert moment(element('<low value="2011"/><high value="2012"/>')) == "2011"
    assert moment(element('<center value="20110102"/>')) == "2011-01-02"
    assert moment(element('<low nullFlavor="UNK"/>')) is None
