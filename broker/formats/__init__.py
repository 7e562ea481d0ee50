"""This package holds the formats in which messages come: what the intake needs of one, and what steps see of it."""
