"""The steps that brought the patient store to its present form."""
