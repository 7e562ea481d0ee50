"""This module tests what the http destination refuses to be built from, each with a sentence that says what to mend."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.errors import ConfigError
from broker.parts import Tools
from config.systems import SystemSpec
from dispatch.web.spec import HttpSpec
from tests.contract.systems import PRESETS
from transforms.kit import Kit


def build(declared: dict[str, Any], presets: dict[str, Any] | None = None, **system: Any) -> Any:
    found = SystemSpec.model_validate(system)
    settings = SimpleNamespace(systems={"crm": found}, data=None)
    known = {"crm": PRESETS["salesforce"]} if presets is None else presets
    tools = Tools("feed", cast("Any", None), lambda _: None, settings, presets=known)
    return HttpSpec.model_validate({"system": "crm", "operation": "upsert_patient", **declared}).build(tools)


@pytest.mark.parametrize(
    ("declared", "system", "words"),
    [
        ({"system": "crn"}, {}, r"channel feed: system 'crn' is not in handoff\.yaml .*\(there: crm\)"),
        ({"operation": "nothing"}, {}, r"Salesforce Health Cloud has no operation 'nothing' \(there: upsert_patient,"),
        ({}, {}, r"systems\.crm\.variables: Salesforce Health Cloud needs host"),
    ],
)
def test_what_is_missing_is_named(declared: dict[str, Any], system: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(declared, **system)


@pytest.mark.parametrize("address", ["ftp://x/y", "https:///path", "https://u:p@x/y", "https://x/y#z"])
def test_secret_address_that_is_none_is_refused_without_being_shown(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK", address)
    with pytest.raises(ConfigError, match=r"systems\.crm\.base_secret: needs an address") as caught:
        build({}, base_secret="${env:WEBHOOK}")
    assert address not in str(caught.value)


def test_address_is_the_presets_with_the_variables_of_the_site() -> None:
    made = build({}, variables={"host": "mercy.my.salesforce.com", "version": "70.0"})
    assert made._system.base == "https://mercy.my.salesforce.com/services/data/v70.0"
    assert (made.batch, made.unknown) == (1, "retry")


def test_destination_holds_what_it_cannot_repeat() -> None:
    presets = {"crm": PRESETS["hubspot"]}
    assert build({"operation": "create_task"}, presets).unknown == "hold"
    assert build({"operation": "upsert_patients"}, presets).unknown == "retry"


def test_renderer_is_not_built_for_a_system_that_is_not_there() -> None:
    declared = HttpSpec.model_validate({"system": "crm", "operation": "upsert_patient"})
    with pytest.raises(ConfigError, match="system 'crm' is not in"):
        declared.build_renderer(Kit(Path("channels")))
