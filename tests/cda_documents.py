"""This module holds a care summary as C-CDA writes them, with every kind of section; people and numbers are made up."""

from typing import Final

HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<?xml-stylesheet type="text/xsl" href="CDA.xsl"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<realmCode code="US"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
<templateId root="2.16.840.1.113883.10.20.22.1.2"/>
<id root="2.16.840.1.113883.3.9999.1" extension="DOC-1"/>
<code code="34133-9" codeSystem="2.16.840.1.113883.6.1" displayName="Summarization of Episode Note"/>
<title>Continuity of Care</title><effectiveTime value="20261120143000-0500"/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="en-US"/>
<recordTarget><patientRole>
<id root="2.16.840.1.113883.4.1" extension="000-11-2222"/>
<id root="2.16.840.1.113883.3.9999.2" extension="MR-7"/>
<addr use="HP"><streetAddressLine>1 Elm St</streetAddressLine><streetAddressLine>Flat 2</streetAddressLine>\
<city>Springfield</city><state>IL</state><postalCode>62701</postalCode><country>US</country></addr>
<telecom value="tel:+1-205-555-0123" use="MC"/><telecom value="mailto:ada@example.org" use="HP"/>
<patient><name use="L"><prefix>Ms.</prefix><given>Ada</given><given>B</given><family>Testwood</family></name>
<administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19620910"/>
<maritalStatusCode code="M" codeSystem="2.16.840.1.113883.5.2"/>
<raceCode code="2106-3" codeSystem="2.16.840.1.113883.6.238" displayName="White"/>
<ethnicGroupCode code="2186-5" codeSystem="2.16.840.1.113883.6.238" displayName="Not Hispanic or Latino"/>
<guardian><code code="GRMTH" codeSystem="2.16.840.1.113883.5.111"/><telecom value="tel:+12055550199"/>\
<guardianPerson><name><given>Gran</given><family>Testwood</family></name></guardianPerson></guardian>
<birthplace><place><addr><city>Mobile</city><state>AL</state></addr></place></birthplace>
<languageCommunication><languageCode code="en"/><preferenceInd value="true"/></languageCommunication>
</patient></patientRole></recordTarget>
<author><time value="20261120143000-0500"/><assignedAuthor><id root="2.16.840.1.113883.4.6" extension="1111111112"/>
<code code="207Q00000X" codeSystem="2.16.840.1.113883.6.101" displayName="Family Medicine"/>
<assignedPerson><name><given>Henry</given><family>Seven</family></name></assignedPerson></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><id root="1.1"/><name>Community Clinic</name>\
</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="20261120150000-0500"/><signatureCode code="S"/><assignedEntity>\
<id root="2.16.840.1.113883.4.6" extension="1111111112"/><assignedPerson><name><family>Seven</family></name>\
</assignedPerson></assignedEntity></legalAuthenticator>
<participant typeCode="IND"><associatedEntity classCode="NOK"><code code="SPS" codeSystem="2.16.840.1.113883.5.111"/>\
<associatedPerson><name><given>Frank</given><family>Testwood</family></name></associatedPerson></associatedEntity>\
</participant>
<relatedDocument typeCode="RPLC"><parentDocument><id root="2.16.840.1.113883.3.9999.1" extension="DOC-0"/>\
</parentDocument></relatedDocument>
<componentOf><encompassingEncounter><id root="2.16.840.1.113883.3.9999.3" extension="V-1"/>
<code code="IMP" codeSystem="2.16.840.1.113883.5.4"/>
<effectiveTime><low value="20261118"/><high value="20261120"/></effectiveTime>
<dischargeDispositionCode code="01" codeSystem="2.16.840.1.113883.12.112"/>
<encounterParticipant typeCode="ATND"><assignedEntity><id root="2.16.840.1.113883.4.6" extension="2222222223"/>\
<assignedPerson><name><given>Alma</given><family>Attend</family></name></assignedPerson></assignedEntity>\
</encounterParticipant>
<location><healthCareFacility><location><name>Ward 3</name></location></healthCareFacility></location>
</encompassingEncounter></componentOf>
"""
PROBLEMS: Final = """<section><templateId root="2.16.840.1.113883.10.20.22.2.5.1"/>
<code code="11450-4" codeSystem="2.16.840.1.113883.6.1"/><title>Problems</title>
<text><list><item ID="p1">High blood pressure</item></list></text>
<entry><act classCode="ACT" moodCode="EVN"><id root="2.1" extension="C-1"/><statusCode code="active"/>
<entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN"><id root="2.1" extension="P-1"/>
<effectiveTime><low value="20100315"/></effectiveTime>
<value xsi:type="CD" code="38341003" codeSystem="2.16.840.1.113883.6.96"><originalText><reference value="#p1"/>\
</originalText><translation code="I10" codeSystem="2.16.840.1.113883.6.90" displayName="Hypertension"/></value>
<author><time value="20100401"/></author></observation></entryRelationship></act></entry>
<entry><act classCode="ACT" moodCode="EVN"><statusCode code="completed"/><entryRelationship typeCode="SUBJ">
<observation classCode="OBS" moodCode="EVN"><effectiveTime><low value="2011"/><high value="201202"/></effectiveTime>
<value xsi:type="CD" code="195967001" codeSystem="2.16.840.1.113883.6.96" displayName="Asthma"/>
</observation></entryRelationship></act></entry></section>"""
ALLERGIES: Final = """<section><code code="48765-2" codeSystem="2.16.840.1.113883.6.1"/><title>Allergies</title>
<text>Penicillin</text>
<entry><act classCode="ACT" moodCode="EVN"><statusCode code="active"/><entryRelationship typeCode="SUBJ">
<observation classCode="OBS" moodCode="EVN"><id root="2.2" extension="A-1"/>
<effectiveTime><low value="19800501"/></effectiveTime>
<value xsi:type="CD" code="416098002" codeSystem="2.16.840.1.113883.6.96"/>
<participant typeCode="CSM"><participantRole><playingEntity>\
<code code="70618" codeSystem="2.16.840.1.113883.6.88" displayName="Penicillin"/></playingEntity></participantRole>\
</participant>
<entryRelationship typeCode="MFST"><observation classCode="OBS" moodCode="EVN">
<templateId root="2.16.840.1.113883.10.20.22.4.9"/><code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/>
<value xsi:type="CD" code="247472004" codeSystem="2.16.840.1.113883.6.96" displayName="Hives"/>
<entryRelationship typeCode="SUBJ"><observation><code code="SEV" codeSystem="2.16.840.1.113883.5.4"/>
<value xsi:type="CD" code="6736007" codeSystem="2.16.840.1.113883.6.96"/></observation></entryRelationship>
</observation></entryRelationship>
<entryRelationship typeCode="SUBJ"><observation><code code="82606-5" codeSystem="2.16.840.1.113883.6.1"/>
<value xsi:type="CD" code="CRITH" codeSystem="2.16.840.1.113883.5.1063"/></observation></entryRelationship>
</observation></entryRelationship></act></entry></section>"""
MEDICATIONS: Final = """<section><templateId root="2.16.840.1.113883.10.20.22.2.1.1"/><title>Medications</title>
<text><content ID="m1">one tablet twice a day</content></text>
<entry><substanceAdministration classCode="SBADM" moodCode="EVN"><id root="2.3" extension="M-1"/>
<text><reference value="#m1"/></text><statusCode code="active"/>
<effectiveTime xsi:type="IVL_TS"><low value="20240101"/><high value="20270101"/></effectiveTime>
<effectiveTime xsi:type="PIVL_TS" operator="A"><period value="12" unit="h"/></effectiveTime>
<routeCode code="C38288" codeSystem="2.16.840.1.113883.3.26.1.1" displayName="Oral"/>
<doseQuantity value="1" unit="1"/>
<consumable><manufacturedProduct><manufacturedMaterial>\
<code code="314076" codeSystem="2.16.840.1.113883.6.88" displayName="Lisinopril 10 MG"/></manufacturedMaterial>\
</manufacturedProduct></consumable>
<entryRelationship typeCode="REFR"><supply classCode="SPLY" moodCode="INT"><repeatNumber value="4"/>\
<quantity value="60" unit="1"/></supply></entryRelationship></substanceAdministration></entry></section>"""
IMMUNIZATIONS: Final = """<section><code code="11369-6" codeSystem="2.16.840.1.113883.6.1"/><title>Immunizations</title>
<text/>
<entry><substanceAdministration classCode="SBADM" moodCode="EVN" negationInd="false"><id root="2.4" extension="I-1"/>
<statusCode code="completed"/><effectiveTime value="20251015"/><doseQuantity value="0.50" unit="mL"/>
<consumable><manufacturedProduct><manufacturedMaterial><code code="140" codeSystem="2.16.840.1.113883.12.292" \
displayName="Influenza"/><lotNumberText>LOT-9</lotNumberText></manufacturedMaterial><manufacturerOrganization>\
<name>Maker</name></manufacturerOrganization></manufacturedProduct></consumable></substanceAdministration></entry>
<entry><substanceAdministration classCode="SBADM" moodCode="EVN" negationInd="true"><statusCode code="completed"/>
<effectiveTime value="20251016"/><consumable><manufacturedProduct><manufacturedMaterial><code code="33" \
codeSystem="2.16.840.1.113883.12.292"/></manufacturedMaterial></manufacturedProduct></consumable>
<entryRelationship typeCode="RSON"><observation><code code="PATOBJ" codeSystem="2.16.840.1.113883.5.8"/>\
</observation></entryRelationship></substanceAdministration></entry></section>"""
RESULTS: Final = """<section><templateId root="2.16.840.1.113883.10.20.22.2.3.1"/><title>Results</title><text>see</text>
<entry><organizer classCode="BATTERY" moodCode="EVN"><id root="2.5" extension="R-1"/>
<code code="24323-8" codeSystem="2.16.840.1.113883.6.1" displayName="Metabolic panel"/><statusCode code="completed"/>
<component><observation classCode="OBS" moodCode="EVN"><code code="2823-3" codeSystem="2.16.840.1.113883.6.1"/>
<statusCode code="completed"/><effectiveTime value="20261119083000-0500"/>
<value xsi:type="PQ" value="4.10" unit="mmol/L"/><interpretationCode code="N"/>
<referenceRange><observationRange><value xsi:type="IVL_PQ"><low value="3.5" unit="mmol/L"/>\
<high value="5.1" unit="mmol/L"/></value></observationRange></referenceRange></observation></component>
<component><observation classCode="OBS" moodCode="EVN"><code code="5778-6" codeSystem="2.16.840.1.113883.6.1"/>
<statusCode code="active"/><value xsi:type="ST">Yellow</value></observation></component>
</organizer></entry></section>"""
VITALS: Final = """<section><code code="8716-3" codeSystem="2.16.840.1.113883.6.1"/><title>Vital signs</title><text/>
<entry><organizer classCode="CLUSTER" moodCode="EVN"><statusCode code="completed"/><component>\
<observation classCode="OBS" moodCode="EVN"><code code="8480-6" codeSystem="2.16.840.1.113883.6.1"/>
<statusCode code="completed"/><effectiveTime value="20261119"/><value xsi:type="PQ" value="128" unit="mm[Hg]"/>\
</observation></component></organizer></entry></section>"""
ENCOUNTERS: Final = """<section><code code="46240-8" codeSystem="2.16.840.1.113883.6.1"/><title>Visits</title><text/>
<entry><encounter classCode="ENC" moodCode="EVN"><id root="2.6" extension="E-9"/><code code="99213" \
codeSystem="2.16.840.1.113883.6.12"><translation code="AMB" codeSystem="2.16.840.1.113883.5.4"/></code>
<effectiveTime value="20260901"/></encounter></entry></section>"""
SECTIONS: Final = (PROBLEMS, ALLERGIES, MEDICATIONS, IMMUNIZATIONS, RESULTS, VITALS, ENCOUNTERS)


def summary(*sections: str, head: str = HEAD) -> bytes:
    """Return a document with these sections."""
    parts = "".join(f"<component>{section}</component>\n" for section in sections)
    return f"{head}<component><structuredBody>{parts}</structuredBody></component></ClinicalDocument>".encode()
