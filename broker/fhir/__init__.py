"""FHIR R4: what a resource may look like, and how to look something up in one."""
