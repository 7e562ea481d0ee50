"""This module holds where FHIR R4 (4.0.1) and R4B (4.3.0) differ, and the codes that the models leave out.

fhir.resources has the models of R4B, and none of R4. R4B changed what few send (medicinal products, evidence) and left
the rest alone; senders of both are taken, so what only one of them knows passes.
"""

from typing import Final

# Resources of R4 that R4B no longer has: they pass, with their own content unchecked.
ONLY_R4: Final = frozenset(
    {
        "EffectEvidenceSynthesis",
        "MedicinalProduct",
        "MedicinalProductAuthorization",
        "MedicinalProductContraindication",
        "MedicinalProductIndication",
        "MedicinalProductIngredient",
        "MedicinalProductInteraction",
        "MedicinalProductManufactured",
        "MedicinalProductPackaged",
        "MedicinalProductPharmaceutical",
        "MedicinalProductUndesirableEffect",
        "RiskEvidenceSynthesis",
        "SubstanceNucleicAcid",
        "SubstancePolymer",
        "SubstanceProtein",
        "SubstanceReferenceInformation",
        "SubstanceSourceMaterial",
        "SubstanceSpecification",
    }
)
# Resources that both have, with other elements in each: nothing but their type is checked.
CHANGED: Final = frozenset({"Evidence", "EvidenceVariable"})
UNCHECKED: Final = ONLY_R4 | CHANGED

_OBSERVATION: Final = (
    "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown",
)  # fmt: skip
_ENCOUNTER: Final = (
    "planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error", "unknown",
)  # fmt: skip
# Required value sets that the models list in part only ("final, amended, +"), in full as of 4.0.1; none: not closed.
FULL_CODES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("CapabilityStatement", "format"): (),
    ("DetectedIssue", "status"): _OBSERVATION,
    ("DeviceUseStatement", "status"): (
        "active", "completed", "entered-in-error", "intended", "stopped", "on-hold",
    ),
    ("DeviceUdiCarrier", "entryType"): ("barcode", "rfid", "manual", "card", "self-reported", "unknown"),
    ("DiagnosticReport", "status"): (*_OBSERVATION, "partial", "appended"),
    ("Encounter", "status"): _ENCOUNTER,
    ("EncounterStatusHistory", "status"): _ENCOUNTER,
    ("Observation", "status"): _OBSERVATION,
    ("RiskAssessment", "status"): _OBSERVATION,
    ("SupplyRequest", "status"): (
        "draft", "active", "suspended", "cancelled", "completed", "entered-in-error", "unknown",
    ),
    ("Task", "status"): (
        "draft", "requested", "received", "accepted", "rejected", "ready", "cancelled", "in-progress", "on-hold",
        "failed", "completed", "entered-in-error",
    ),
}  # fmt: skip
