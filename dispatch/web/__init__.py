"""This package holds the `http` destination: systems described as data, and what sends to them."""
