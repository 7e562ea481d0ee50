"""The canonical model: what every message becomes."""
