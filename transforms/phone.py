"""This module writes telephone numbers in E.164, the one form that every gateway takes."""

from functools import lru_cache

# What people write for the countries whose region code they do not know.
_OFTEN_MEANT = {"UK": "GB", "USA": "US", "EN": "GB", "EL": "GR"}


@lru_cache(maxsize=16_384)
def e164(number: str, region: str | None = None) -> str | None:
    """Return a number as E.164 (``+12055550123``), or None when it cannot be one.

    Only the length for its country is checked: which numbers exist changes faster than any table of them.
    Without ``region`` (ISO 3166-1 alpha-2, such as ``US``) only a number that begins with ``+`` can be read.
    """
    if region is None and not number.lstrip().startswith("+"):
        return None
    import phonenumbers  # noqa: PLC0415 - its tables cost 30 ms, and many channels send no texts

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None  # also when only the area code is missing
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def region_mistake(region: str) -> str | None:
    """Return what is wrong with a region code, or None when telephone numbers can be read with it."""
    import phonenumbers  # noqa: PLC0415 - as above

    if region in phonenumbers.SUPPORTED_REGIONS:
        return None
    meant = _OFTEN_MEANT.get(region.upper(), region.upper())
    hint = f"; did you mean {meant}?" if meant in phonenumbers.SUPPORTED_REGIONS else ""
    return f"{region!r} is no region of telephone numbers (ISO 3166-1 alpha-2, such as US){hint}"
