"""The patient-relationship store: who the patients are, what is known of them and what happened to them."""
