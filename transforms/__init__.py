"""The pure middle: expressions, templates, steps and the standard mappings."""
