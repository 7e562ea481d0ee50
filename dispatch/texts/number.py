"""This module reads telephone numbers."""

from broker.errors import StepError


def e164(number: object, region: str = "") -> str:
    """Return a telephone number in E.164; raise `StepError`, without the number, when it cannot be one.

    Only the length for its country is checked: which numbers exist changes faster than any table of them.
    """
    import phonenumbers  # noqa: PLC0415 - only needed in a worker, at the first text

    text = "" if number is None else str(number).strip()
    if not text:
        raise StepError("sms: there is no number to send to; guard with `when: patient.mobile`")
    try:
        parsed = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or not phonenumbers.is_possible_number(parsed):
        hint = "" if region else ", or set `region:` for numbers without a country code"
        raise StepError(f"sms: the number cannot be a telephone number; it needs + and the country code{hint}")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
