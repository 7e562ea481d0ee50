"""Mercy General's own rules: what its feed means that no standard says.

A step calls a function of this file with a document: `document.event` is the canonical event (frozen: use `replace`),
`document.message.get("PID-5.1")` reads the message, `document.hl7` is the same parsed by python-hl7. Return the
document, or Filtered(reason) to stop here on purpose.
"""

from dataclasses import replace

from broker.message import Filtered

# Mercy's interface sends its nightly test registrations with this family name.
TEST_FAMILY = "ZZTEST"


def house_rules(document):
    """Stop test patients, and write names that were typed in capitals the way people write them."""
    patient = document.event.patient
    family, given = patient.family or "", patient.given or ""
    if family.upper().startswith(TEST_FAMILY):
        return Filtered("a test patient of Mercy")
    if family.isupper() and given.isupper():
        patient = replace(patient, family=family.title(), given=given.title())
        document.event = replace(document.event, patient=patient)
    return document
