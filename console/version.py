"""This module knows which version of Handoff runs."""

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """Return the version, or 0 where Handoff runs from a checkout that was not installed."""
    try:
        return version("handoff")
    except PackageNotFoundError:
        return "0"
