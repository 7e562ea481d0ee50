"""This package is a practice SMS gateway and EHR, so that a newcomer sees texts and write-backs arrive."""
