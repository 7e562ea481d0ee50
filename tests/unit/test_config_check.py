# ruff: noqa: E501 - one case of a table is one line
"""What `handoff check` says: every mistake at its place, in an analyst's words, all of them at once."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.catalog import DESTINATIONS, LISTENERS, STEPS
from config.channel import ChannelSpec, DeliverSpec, read_channel
from config.findings import report
from config.marks import Source
from config.strict_yaml import read
from tests.project import CHANNEL, FILES, SETTINGS, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_channel_without_mistakes_has_no_findings(project: Project) -> None:
    checked = project.check()
    assert report(checked.findings) == ""
    assert checked.ok
    (plan,) = checked.channels
    assert plan.name == "feed"
    assert [step.name for step in plan.steps] == [
        "steps.1.filter",
        "steps.2.canonical",
        "steps.3.set",
        "steps.4.script",
    ]
    assert [(way.name, way.kind, way.after, way.unknown) for way in plan.deliver] == [
        ("store", "prm", None, "retry"),
        ("text", "sms", "store", "hold"),
        ("ehr", "fhir", None, "retry"),
    ]
    assert plan.deliver[1].retry.first == 30
    assert plan.deliver[1].retry.expire == 7200


REPLIES = """\
channel: replies
listen: {texts: {}}
format: text
steps: [{canonical: {}}]
deliver:
  store: {when: "event.kind == 'consent.withdrawn'", prm: {}}
"""


def test_replies_go_to_a_channel_that_takes_them(project: Project) -> None:
    project.channel(REPLIES, "replies")
    assert project.told("gateways.twilio.replies=replies") == []
    (told,) = project.told("gateways.twilio.replies=feed")
    sentence = 'gateways.twilio.replies names "feed", which is no channel with `listen: {texts: {}}`'
    assert told.startswith(f"handoff.yaml:0:0-0 error[E301] {sentence} (")
    (told,) = project.told("gateways.twilio.replies=replys")
    assert 'did you mean "replies"?' in told
    project.channel(REPLIES.replace("format: text\n", ""), "replies")
    assert any("listen.texts brings text, not hl7" in line for line in project.told())


def test_all_mistakes_of_all_files_are_told_at_once_in_order(project: Project) -> None:
    project.channel(CHANNEL.replace("attempts: 3", "atempts: 3").replace("== 'ADT'", "== zork").replace("prm:", "prn:"))
    project.channel("channel: other\nlisten: {}\nx: 1\n", "other")
    project.write("channels/templates/hello.txt.j2", "Hello\n{{ patient.givn }}\n")
    places = [line.split()[0].rsplit("-")[0] for line in project.told()]
    assert places == [
        "feed.yaml:7:24",
        "feed.yaml:15:5",
        "feed.yaml:20:13",
        "other.yaml:1:1",
        "other.yaml:2:1",
        "other.yaml:3:1",
        "hello.txt.j2:2:12",
    ]


def test_a_mistake_in_a_template_points_into_the_template(project: Project) -> None:
    project.write("channels/templates/patient.json.j2", '{"a": 1,\n "b": {{ patient.sexx }}}\n')
    (found,) = project.check().findings
    assert found.path.endswith("channels/templates/patient.json.j2")
    assert (found.line, found.column, found.end, found.code) == (2, 18, 22, "E202")
    assert "patient.json.j2:2:18: error[E202]" in str(found)
    assert ' "b": {{ patient.sexx }}}' in str(found)


def test_a_script_that_is_no_python_is_told_at_its_line(project: Project) -> None:
    project.write("channels/scripts/rules.py", "def house_rules(document):\n    return (document\n")
    (told,) = project.told()
    assert told.startswith("rules.py:2:12-13 error[E205] this is no Python: '(' was never closed")


def test_a_script_is_not_run_by_a_check(project: Project) -> None:
    mark = project.folder / "ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n{FILES['scripts/rules.py']}"
    project.write("channels/scripts/rules.py", code)
    assert project.told() == []
    assert not mark.exists()


def test_two_equal_mistakes_are_told_at_both_places(project: Project) -> None:
    text = CHANNEL.replace("{mobile: PID-13.1}", "{mobile: zork, email: zork}")
    project.channel(text)
    assert [line.split()[0] for line in project.told()] == ["feed.yaml:9:25-29", "feed.yaml:9:38-42"]


def test_names_of_a_broken_set_step_are_known_all_the_same(project: Project) -> None:
    project.channel(
        CHANNEL.replace("ward: PV1-3.1", "ward: PV1-3.1\n      wing: 5").replace("patient.mobile\n", "ward and wing\n")
    )
    assert [line.split()[0] for line in project.told()] == ["feed.yaml:12:13-14"]


def test_two_channels_may_not_share_name_or_endpoint(project: Project) -> None:
    project.channel(CHANNEL, "second")
    told = project.told()
    assert told[0].startswith('second.yaml:1:10-14 error[E305] another channel is called "feed" as well (it is in')
    assert 'warning[E306] the channel is called "feed" and its file second.yaml' in told[1]
    assert (
        "second.yaml:3:20-34 error[E304] listen.mllp.endpoint: channel feed listens on 127.0.0.1:2575 already"
        in told[2]
    )


HTTP: Final = """\
channel: {name}
listen:
  http: {{endpoint: 127.0.0.1:8600, path: {path}, callers: [{caller}]}}
deliver:
  store:
    prm: {{}}
"""


def test_channels_share_a_port_of_http_by_their_paths(project: Project) -> None:
    project.write("handoff.yaml", SETTINGS + "callers:\n  lab: {basic: {user: lab, password: '${env:L:-sandbox}'}}\n")
    project.channel(HTTP.format(name="one", path="/one", caller="lab"), "one")
    project.channel(HTTP.format(name="two", path="/two", caller="lab"), "two")
    assert project.told() == []
    project.channel(HTTP.format(name="two", path="/one", caller="lab"), "two")
    (told,) = project.told()
    assert told.startswith("two.yaml:3:20-34 error[E304] listen.http.endpoint: channel one listens on 127.0.0.1:8600")
    assert "to share it: it serves /one there already" in told


def test_callers_are_those_of_the_settings(project: Project) -> None:
    project.write("handoff.yaml", SETTINGS + "callers:\n  lab: {basic: {user: lab, password: '${env:L:-sandbox}'}}\n")
    project.channel(HTTP.format(name="one", path="/one", caller="lap"), "one")
    (told,) = project.told()
    assert 'error[E301] listen.http.callers.1 names "lap"' in told
    assert 'did you mean "lab"?' in told


def test_what_is_answered_with_is_a_delivery_of_the_channel(project: Project) -> None:
    answering = "listen:\n  http: {endpoint: 127.0.0.1:8600, answer: {from: deliver.stor}}\nformat: json\ndeliver:\n  store:\n    prm: {}\n"
    project.channel(f"channel: one\n{answering}", "one")
    (told,) = project.told()
    assert 'one.yaml:3:51-63 error[E301] listen.http.answer.from names "stor"' in told
    assert 'did you mean "store"?' in told
    project.channel("channel: one\n" + answering.replace("stor}", "store}"), "one")
    assert project.told() == []
    project.channel("channel: one\n" + answering.replace("stor}", "store}").replace("format: json\n", ""), "one")
    (told,) = project.told()
    assert "HL7 v2 is answered with an acknowledgment" in told


def test_two_channels_may_both_take_any_free_port(project: Project) -> None:
    project.channel(CHANNEL.replace(":2575", ":0"))
    project.channel(CHANNEL.replace(":2575", ":0").replace("channel: feed", "channel: second"), "second")
    assert project.told() == []
    assert [plan.name for plan in project.check().channels] == ["feed", "second"]


def test_a_channel_that_delivers_to_nobody_is_warned_of(project: Project) -> None:
    project.channel(CHANNEL[: CHANNEL.index("deliver:")])
    (told,) = project.told()
    assert (
        told
        == "feed.yaml:1:1-2 warning[E307] the channel delivers to nobody; its messages are only stored (add `deliver:`)"
    )
    assert project.check().ok


def test_a_folder_without_channels_is_told(project: Project) -> None:
    (project.folder / "channels/feed.yaml").unlink()
    (found,) = project.check().findings
    assert (found.severity, found.text) == ("warning", "there is no channel file in this folder")
    (found,) = project.check("channels=nowhere").findings
    assert (found.severity, found.text) == ("error", "there is no such folder of channels")


def test_a_broken_channel_does_not_hide_the_others(project: Project) -> None:
    project.channel("channel: [", "broken")
    checked = project.check()
    assert not checked.ok
    assert [plan.name for plan in checked.channels] == ["feed"]


def test_an_empty_channel_file_is_told(project: Project) -> None:
    project.channel("# nothing\n", "empty")
    told = project.told()
    assert 'empty.yaml:1:1-2 error[E105] the file needs the key "channel"' in told[0]


def test_a_list_is_no_channel(project: Project) -> None:
    project.channel("- a\n", "list")
    assert project.told() == [
        "list.yaml:1:1-2 error[E106] the file needs keys and values, found a list (allowed: channel, description, labels, "
        "listen, format, order, index, steps, deliver)"
    ]


def test_a_report_reads_as_an_editor_wants_it() -> None:
    text = textwrap.dedent("""\
        channel: x
        listen:
          mllp: {endpoint: 127.0.0.1:2575, idel: 5s}
        deliver: {a: {prm: {}}}
        """)
    tree = read(Source("channels/x.yaml", text))
    findings = list(tree.findings)
    read_channel(tree.value, tree.marks, findings)
    assert report(findings) == textwrap.dedent("""\
        channels/x.yaml:3:36: error[E104]: unknown key "idel" in listen.mllp
            3 |   mllp: {endpoint: 127.0.0.1:2575, idel: 5s}
              |                                    ^^^^ did you mean "idle"?
        1 error in 1 file""")
    assert findings[0].as_json() == {
        "file": "channels/x.yaml",
        "line": 3,
        "column": 36,
        "end_column": 40,
        "code": "E104",
        "severity": "error",
        "message": 'unknown key "idel" in listen.mllp',
        "hint": findings[0].hint,
    }


# -------------------------------------------------------------------------------------------------------- revisions


def revision(project: Project, *sets: str) -> str:
    (plan,) = project.check(*sets).channels
    return plan.revision


def test_a_revision_covers_the_content_and_not_its_form(project: Project) -> None:
    first = revision(project)
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    project.channel("# a note\n" + CHANNEL.replace("{mrn: ", "{  mrn:   "))
    assert revision(project) == first


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_revision_covers_the_files_that_a_channel_names(project: Project, name: str) -> None:
    first = revision(project)
    project.write(f"channels/{name}", FILES[name] + "\n")
    assert revision(project) != first


def test_a_revision_covers_overrides(project: Project) -> None:
    assert revision(project) != revision(project, "deliver.text.retry.attempts=4")


def test_a_revision_does_not_cover_files_that_nobody_names(project: Project) -> None:
    first = revision(project)
    project.write("channels/templates/other.j2", "x")
    assert revision(project) == first


# ------------------------------------------------------------------------------------------------------ whatever comes

LEAF: Final = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(0, 9)
    | st.sampled_from(
        [
            "",
            "x",
            "{{ x",
            "{{ patient.mobile }}",
            "PID-3[5=MR].1",
            "PID-0",
            "a.j2",
            "scripts/rules.py:x",
            "5s",
            "a:1",
            "store",
        ]
    )
)
WORD: Final = st.sampled_from(
    [
        *ChannelSpec.model_fields,
        *DeliverSpec.model_fields,
        *LISTENERS,
        *STEPS,
        *DESTINATIONS,
        "endpoint",
        "text",
        "to",
        "x",
    ]
)
TREE: Final = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=4), max_leaves=12
)


@given(changes=st.dictionaries(st.sampled_from(list(ChannelSpec.model_fields)), TREE, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_check_never_fails_whatever_is_written(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "whatever"
    folder.mkdir(exist_ok=True)
    project = Project(folder)
    tree = read(Source("x", CHANNEL)).value | changes
    project.channel(json.dumps(tree))
    checked = project.check()
    assert checked.ok == bool(checked.channels)
    assert all(str(found) for found in checked.findings)
