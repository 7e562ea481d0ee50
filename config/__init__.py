"""The one place that knows every part: strict YAML, settings, channels, and what is wrong with them."""
