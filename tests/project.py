"""This module makes small projects: a folder with settings, one channel, its templates and its script."""

from pathlib import Path
from typing import Any, Final

from config.channel import ChannelPlan, read_channel
from config.check import Checked, check
from config.marks import Mark, Marks, Source
from config.settings import load

SETTINGS: Final = """\
gateways:
  twilio: {base: "http://127.0.0.1:8090", account: ACx, token: "${env:T:-sandbox}", from: "+12055550100"}
servers:
  mercy-ehr: {base: "http://127.0.0.1:8090/fhir"}
"""
CHANNEL: Final = """\
channel: feed
listen:
  mllp: {endpoint: 127.0.0.1:2575}
order: PID-3[5=MR].1
index: {mrn: "PID-3[5=MR].1"}
steps:
  - filter: MSH-9.1 == 'ADT'
  - canonical:
      patient: {mobile: PID-13.1}
  - set:
      ward: PV1-3.1
  - script: scripts/rules.py:house_rules
deliver:
  store:
    prm: {}
  text:
    after: store
    when: patient.mobile
    sms: {gateway: twilio, to: "{{ patient.mobile }}", text: templates/hello.txt.j2}
    retry: {attempts: 3, first: 30s, expire: 2h}
  ehr:
    fhir:
      server: mercy-ehr
      resource: templates/patient.json.j2
      search: "identifier={{ patient.mrn.value }}"
"""
FILES: Final = {
    "templates/hello.txt.j2": "Hello {{ patient.given }}.\n",
    "templates/patient.json.j2": '{"resourceType": "Patient",\n "gender": {{ patient.sex }}}\n',
    "scripts/rules.py": "def house_rules(document):\n    return document\n",
}


def plan_of(tree: dict[str, Any]) -> ChannelPlan:
    """Return the plan of a channel that has no mistakes."""
    findings: list[Any] = []
    plan = read_channel(tree, Marks(Mark(Source("feed", ""), 0, 1)), findings).plan()
    assert plan is not None, findings
    return plan


class Project:
    """A folder with settings, channels, templates and scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("handoff.yaml", SETTINGS)
        self.channel(CHANNEL)
        for name, text in FILES.items():
            self.write(f"channels/{name}", text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def channel(self, text: str, name: str = "feed") -> None:
        self.write(f"channels/{name}.yaml", text)

    def check(self, *sets: str, **environment: str) -> Checked:
        return check(load(self.folder / "handoff.yaml", sets=sets, environment=environment))

    def told(self, *sets: str, **environment: str) -> list[str]:
        """Return the findings in one line each: place, severity, code, sentence, and the hint in brackets."""
        lines = []
        for found in self.check(*sets, **environment).findings:
            place = f"{Path(found.path).name}:{found.line}:{found.column}-{found.end}"
            lines.append(
                f"{place} {found.severity}[{found.code}] {found.text}" + (f" ({found.hint})" if found.hint else "")
            )
        return lines
