# ruff: noqa: E501 - one case of a table is one line
"""Systems and presets: what is wrong with them is told with its place, and what is right reaches workers and engine."""

from pathlib import Path

import pytest

from broker.errors import ConfigError
from config.build import build_program
from config.presets import every_preset
from config.settings import load
from dispatch.web.rendering import Frozen
from tests.project import CHANNEL, SETTINGS, Project

SYSTEMS = """\
systems:
  crm: {preset: salesforce, variables: {host: mercy.my.salesforce.com}, auth: {bearer: {token: "${env:S}"}}}
"""
OWN = """\
preset: lab
name: The lab's portal
base: https://{host}/v1
variables: {host: {about: The host.}}
operations:
  send:
    path: results/{{ key }}
    body: {name: "{{ patient.family }}", "more?": "{{ extra }}"}
    values:
      key: {about: The key., default: "{{ patient.mrn.value }}"}
      extra: {about: More., optional: true}
"""
MESSAGE = (
    b"MSH|^~\\&|ADT1|MERCY|||20240501103000||ADT^A04^ADT_A01|1|P|2.5.1\r"
    b"PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F\rPV1|1|X|4EAST\r"
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def told(project: Project, systems: str, deliver: str = "prm: {}", **environment: str) -> list[str]:
    project.write("handoff.yaml", SETTINGS + systems)
    project.channel(CHANNEL.replace("    prm: {}", f"    {deliver}"))
    try:
        return project.told(**{"S": "s3cret", **environment})
    except ConfigError as error:
        return [line for line in str(error).splitlines() if "error[" in line or "warning[" in line]


@pytest.mark.parametrize(
    ("systems", "place", "words"),
    [
        ("systems: {crm: {preset: salesfource}}", "5:25", 'names the preset "salesfource", which is not there'),
        ("systems: {crm: {preset: salesforce, variables: {host: x.y}}}", "5:11", 'systems.crm needs the key "auth"'),
        ('systems: {crm: {preset: salesforce, auth: {bearer: {token: "${env:S}"}}}}', "5:11", 'needs the key "host"'),
        (
            'systems: {crm: {preset: hubspot, variables: {a: b}, auth: {bearer: {token: "${env:S}"}}}}',
            "5:46",
            "has no variable a",
        ),
        ("systems: {crm: {preset: zoho-crm, variables: {region: a/b}}}", "5:55", "as in a host name"),
        (
            'systems: {crm: {preset: hubspot, auth: {basic: {username: a, password: "${env:S}"}}}}',
            "5:41",
            "HubSpot does not take auth.basic",
        ),
        ("systems: {crm: {}}", "5:11", 'systems.crm needs the key "base"'),
        ('systems: {crm: {base: "http://x", base_secret: "${env:S}"}}', "5:35", "only one address"),
        ('systems: {crm: {base: "http://x?y=1"}}', "5:23", "needs an address"),
        ('systems: {crm: {base: "http://x", base_secret: "http://y"}}', "5:48", "holds a secret itself"),
        ('systems: {crm: {preset: webhook, base: "http://x"}}', "5:11", 'needs the key "signing_secret"'),
        ('systems: {crm: {base: "http://x", signing_secret: "${env:S}"}}', "5:35", "does not sign"),
        (
            'systems: {crm: {preset: webhook, base: "http://x", signing_secret: "${env:W}"}}',
            "5:52",
            "goes on in base64",
        ),
        (
            'systems: {crm: {preset: zoom, auth: {client_credentials: {client_id: a, client_secret: "${env:S}"}}}}',
            "5:11",
            'needs the key "account"',
        ),
    ],
)
def test_mistake_in_a_system_is_told_at_its_place(project: Project, systems: str, place: str, words: str) -> None:
    found = told(project, systems, W="whsec_!")
    assert any(f"handoff.yaml:{place}" in line and words in line for line in found), found
    assert not any("s3cret" in line or "whsec_!" in line for line in found)


@pytest.mark.parametrize(
    ("deliver", "words"),
    [
        ("http: {system: crn, operation: upsert_patient}", 'E301] deliver.store.http.system names "crn"'),
        (
            "http: {system: crm, operation: upsert_pateint}",
            "E321] Salesforce Health Cloud has no operation upsert_pateint",
        ),
        (
            "http: {system: crm, operation: upsert_patient, values: {kee: 1}}",
            "E321] deliver.store.http.values: there is no value kee",
        ),
        ("http: {system: crm, operation: create_task}", 'E321] deliver.store.http needs the value "subject"'),
        ("http: {system: crm}", "needs `operation` or `request`"),
        ("http: {system: crm, operation: a, request: {}}", "needs `operation` or `request`"),
        (
            'http: {system: crm, operation: upsert_patient, values: {key: "{{ patient.mnr }}"}}',
            "E202] patient has no mnr",
        ),
        ('http: {system: crm, request: {path: "https://evil/{{ ward }}"}}', "below the base"),
        ('http: {system: crm, request: {path: "x/{{ wart }}"}}', "E202] wart is not defined"),
        ("http: {system: crm, request: {headers: {X-A: templates/none.j2}}}", "E204]"),
    ],
)
def test_mistake_in_a_destination_is_told_at_its_place(project: Project, deliver: str, words: str) -> None:
    found = told(project, SYSTEMS, deliver)
    assert [line for line in found if words in line and line.startswith("feed.yaml:15:")], found
    assert len(found) == 1


def test_channel_without_mistakes_renders_in_the_worker_and_knows_its_preset(project: Project) -> None:
    assert (
        told(
            project,
            SYSTEMS,
            "http: {system: crm, operation: upsert_patient, values: {fields: {Ward__c: '{{ ward }}'}}}",
        )
        == []
    )
    (plan,) = project.check(S="x").channels
    assert list(plan.presets) == ["crm"]
    assert plan.deliver[0].unknown == ""
    program = build_program(plan.tree, project.folder / "channels", plan.presets)
    (state, *_), requests = program.process(MESSAGE, 0.0)
    assert state == "processed"
    sent = Frozen.unpacked(requests[0], "k")
    assert (sent.method, sent.path) == ("PATCH", "sobjects/Account/MRN__c/MERCY%7C00123")
    assert b'"Ward__c":"X"' not in sent.body
    assert b'"LastName":"Okafor"' in sent.body


def test_preset_of_a_site_is_used_and_belongs_to_the_revision(project: Project) -> None:
    project.write("channels/presets/lab.yaml", OWN)
    assert (
        told(
            project,
            "systems: {lab: {preset: lab, variables: {host: lab.example}}}",
            "http: {system: lab, operation: send}",
        )
        == []
    )
    (before,) = project.check().channels
    project.write("channels/presets/lab.yaml", OWN.replace("results/", "reports/"))
    (after,) = project.check().channels
    assert before.revision != after.revision
    assert "lab" in every_preset(project.folder / "channels")


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("preset: lab", "preset: labs", "1:9", 'is called "labs" and its file lab.yaml'),
        ("{host}", "{hosst}", "3:7", "there is no variable hosst"),
        ("path: results/", "paths: results/", "7:5", 'unknown key "paths"'),
        ("{{ key }}", "{{ kee }}", "7:22", "kee is not defined"),
        ("patient.family", "patient.famili", "8:30", "patient has no famili"),
        ("patient.mrn.value", "patient.mrn.valu", "10:55", "has no valu"),
        ('"more?": "{{ extra }}"', "a: 1", "11:7", "nothing reads the value extra"),
        ("base: https://{host}/v1", "base: '{host}/v1'", "3:7", "needs an address"),
        ("{about: The host.}", "{about: The host., default: a/b}", "4:47", "as in a host name"),
    ],
)
def test_mistake_in_a_preset_is_told_at_its_place(project: Project, old: str, new: str, place: str, words: str) -> None:
    project.write("channels/presets/lab.yaml", OWN.replace(old, new, 1))
    found = told(project, "systems: {lab: {preset: lab, base: 'http://x'}}", "http: {system: lab, operation: send}")
    assert [line for line in found if f"lab.yaml:{place}" in line and words in line], found
    assert len([line for line in found if "error[" in line]) <= 1, found


def test_what_a_preset_knows_of_authentication_goes_below_what_the_site_says(project: Project) -> None:
    project.write(
        "handoff.yaml",
        "systems:\n"
        "  a: {preset: zoho-crm, variables: {region: eu}, auth: {refresh_token: {token: '${env:S}', client_id: x}}}\n"
        "  b: {preset: zoom, variables: {account: acc}, auth: {client_credentials: {client_id: x, client_secret: '${env:S}'}}}\n"
        "  c: {preset: zendesk, variables: {subdomain: m}, auth: {client_credentials: {client_id: x, client_secret: '${env:S}',"
        " token_url: 'https://other.example/t'}}}\n",
    )
    systems = load(project.folder / "handoff.yaml", environment={"S": "x"}).systems
    zoho, zoom, zendesk = (systems[name].auth for name in "abc")
    assert zoho is not None
    assert zoho.refresh_token is not None
    assert (zoho.refresh_token.token_url, zoho.refresh_token.scheme) == (
        "https://accounts.zoho.eu/oauth/v2/token",
        "Zoho-oauthtoken",
    )
    assert zoom is not None
    assert zoom.client_credentials is not None
    assert zoom.client_credentials.fields == {"grant_type": "account_credentials", "account_id": "acc"}
    assert zendesk is not None
    assert zendesk.client_credentials is not None
    assert zendesk.client_credentials.token_url == "https://other.example/t"


def test_preset_that_cannot_be_read_is_told(project: Project) -> None:
    (project.folder / "channels/presets/lab.yaml").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        every_preset(project.folder / "channels")


def test_presets_that_come_along_have_no_mistakes(project: Project) -> None:
    names = every_preset(project.folder / "channels")
    systems = "systems:\n" + "".join(
        f"  s{number}: {{preset: {name}, base: 'http://x', auth: {{}}}}\n" for number, name in enumerate(names)
    )
    project.write("handoff.yaml", systems)
    wrong = told(project, systems)
    assert not [line for line in wrong if "dispatch/presets" in line]
