"""The page about the standard mapping names every message code and every trigger that is mapped, and no other."""

from pathlib import Path
from typing import Final

from broker.canonical.model import KINDS
from transforms import map_account, map_adt, map_appointment, map_document, map_referral, map_staff
from transforms.map_message import MAPPERS

PAGE: Final = Path(__file__).parents[2] / "docs/reference/mapping.md"
TRIGGERS: Final = {
    "ADT": map_adt.TRIGGERS,
    "SIU": map_appointment.TRIGGERS,
    "SRM": map_appointment.REQUESTS,
    "SRR": map_appointment.ANSWERS,
    "REF": map_referral.TRIGGERS,
    "RRI": map_referral.ANSWERS,
    "MDM": map_document.TRIGGERS,
    "BAR": map_account.TRIGGERS,
    "DFT": map_account.CHARGES,
    "MFN": map_staff.TRIGGERS,
}


def rows() -> list[list[str]]:
    table = PAGE.read_text().partition("|---|---|---|\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_page_names_every_message_code() -> None:
    assert {code for codes, _, _ in rows() for code in codes.split()} == set(MAPPERS)


def test_page_says_what_every_trigger_means() -> None:
    told = {
        (codes, trigger): kind.partition(",")[0].strip("`")
        for codes, triggers, kind in rows()
        if triggers != "any"
        for trigger in triggers.split()
    }
    assert told == {(code, trigger): kind for code, table in TRIGGERS.items() for trigger, kind in table.items()}


def test_page_names_kinds_of_the_model_only() -> None:
    named = {word.strip("`,") for _, _, kinds in rows() for word in kinds.split() if word.startswith("`")}
    assert named <= set(KINDS)
