"""Accounts and what is charged to them: BAR and DFT."""

import pytest

from broker.canonical.model import Concept, Identifier
from tests.mapping import PID, mapped, segment

WITH_ACCOUNT = PID + "|" * 10 + "ACC1^^^MERCY^AN"
VISIT = segment("PV1", f2="I", f20="SELF", f46="12.50")


@pytest.mark.parametrize(
    ("kind", "expected", "status"),
    [
        ("BAR^P01", "account.opened", "active"),
        ("BAR^P02", "account.updated", "inactive"),
        ("BAR^P05", "account.updated", "active"),
        ("BAR^P06", "account.closed", "inactive"),
        ("BAR^P12", "account.updated", "active"),
        ("DFT^P03", "account.charged", "active"),
        ("DFT^P11", "account.charged", "active"),
    ],
)
def test_trigger_gives_kind_and_status(kind: str, expected: str, status: str) -> None:
    event = mapped(kind, "EVN|P01|20240501", WITH_ACCOUNT, VISIT)
    account = event.account
    assert account is not None
    assert (event.kind, account.status) == (expected, status)
    assert account.identifier == Identifier(value="ACC1", system="MERCY", type="AN")
    assert (account.type, account.balance) == (Concept(code="SELF"), "12.50")
    assert account.opened_at == ("2024-05-01" if kind == "BAR^P01" else None)
    assert account.closed_at == ("2024-05-01" if kind == "BAR^P06" else None)


def test_charges_are_told_in_their_order() -> None:
    charge = segment(
        "FT1", f1="1", f2="T1", f4="20240501", f6="CG", f7="99213^Visit^C4", f10="2", f11="150.00&USD", f20="77^Lind"
    )
    other = segment("FT1", f1="2", f6="CR", f12="-20&USD", f25="X1^Other")
    account = mapped("DFT^P03", WITH_ACCOUNT, charge, other).account
    assert account is not None
    first, second = account.charges
    assert (first.identifier, first.type, first.code) == (
        Identifier(value="T1"),
        "CG",
        Concept(code="99213", system="C4", text="Visit"),
    )
    assert (first.amount, first.quantity, first.charged_at) == ("150.00", "2", "2024-05-01")
    assert first.performer is not None
    assert first.performer.family == "Lind"
    assert (second.type, second.amount, second.code) == ("CR", "-20", Concept(code="X1", text="Other"))
