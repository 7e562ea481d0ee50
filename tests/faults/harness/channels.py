"""This module writes the channel files of the fault tests."""

from collections.abc import Callable, Mapping
from typing import Final

_HEAD: Final = """\
channel: faults
description: Everything that can fail, with every destination
listen:
  mllp: {{endpoint: 127.0.0.1:{port}, acknowledge: stored{listen}}}
order: PID-3[5=MR].1
index: {{mrn: "PID-3[5=MR].1", visit: PV1-19.1}}
steps:
  - filter: MSH-9.1 == 'ADT'
  - canonical: {{}}
{steps}
deliver:
"""
_PATIENTS: Final = """\
  patients:
    prm: {}
    retry: {attempts: 0, first: 100ms, max: 1s}
"""
_EHR: Final = """\
  ehr:
    fhir:
      server: ehr
      resource: '{{"resourceType": "Communication", "status": "completed",
        "identifier": [{{"system": "urn:faults", "value": "{{{{ event.source.control_id }}}}"}}]}}'
      search: "identifier=urn:faults|{{{{ event.source.control_id }}}}"
      on_match: keep
      validate: false
      timeout: {timeout}
    retry: {{attempts: {attempts}, first: 100ms, max: 1s}}
"""
_TEXTS: Final = """\
  texts:
    sms:
      gateway: phone
      to: "{{{{ patient.mobile }}}}"
      text: "You are expected {{{{ event.source.control_id }}}}"
      timeout: {timeout}
    retry: {{attempts: {attempts}, first: 100ms, max: 1s}}
"""


def channel(
    *,
    destinations: str = "patients ehr texts",
    step: str = "",
    listen: str = "",
    attempts: int = 0,
    timeout: str = "5s",
    more: Mapping[str, str] | None = None,
) -> Callable[[int], str]:
    """Return what writes a channel for a port.

    ``step`` is a script's function to add, ``listen`` more options, ``more`` further options of a destination.
    """
    parts = {
        "patients": _PATIENTS,
        "ehr": _EHR.format(attempts=attempts, timeout=timeout),
        "texts": _TEXTS.format(attempts=attempts, timeout=timeout),
    }

    def write(port: int) -> str:
        steps = f"  - script: {step}" if step else ""
        head = _HEAD.format(port=port, steps=steps, listen=f", {listen}" if listen else "")
        return head + "".join(parts[name] + _indented((more or {}).get(name, "")) for name in destinations.split())

    return write


def _indented(options: str) -> str:
    return f"    {options}\n" if options else ""


def others(base: str) -> str:
    """Return the settings that name the other side."""
    return (
        f"servers:\n  ehr: {{base: {base}/fhir}}\n"
        f"gateways:\n  phone: {{base: {base}, account: AC1, from: '+12025550100', "
        "token: '${env:FAULTS_TOKEN:-sandbox}'}\n"
    )
