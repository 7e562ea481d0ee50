"""This module tests what the kit finds in the channels folder, and what it refuses to."""

import sys
from pathlib import Path

import pytest

from broker.message import Document
from broker.wire.er7 import Message
from transforms.kit import Kit
from transforms.mistakes import ExpressionError
from transforms.script import ScriptError

GIVEN = Document(message=Message.parse(b"MSH|^~\\&|A|B|||2024||ADT^A08|1|P|2.5.1\rPID|||1||Okafor"), received_at=0.0)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    folder = tmp_path / "channels"
    (folder / "templates").mkdir(parents=True)
    (folder / "scripts").mkdir()
    (folder / "templates/hello.txt.j2").write_text("Hello\n{{ PID-5.1 }}\n")
    (folder / "scripts/rules.py").write_text("import math\n\ndef rule(document):\n    return document\n\nvalue = 3\n")
    (tmp_path / "outside.j2").write_text("secret")
    (tmp_path / "outside.py").write_text("def rule(d): return d")
    return Kit(folder)


def test_template_is_text_or_a_file_below_the_folder(kit: Kit) -> None:
    assert kit.template("templates/hello.txt.j2")(GIVEN) == "Hello\nOkafor"
    assert kit.template("Dear {{ PID-5.1 }}", "text")(GIVEN) == "Dear Okafor"
    assert kit.value("templates/hello.txt.j2")(GIVEN) == "Hello\nOkafor"
    assert kit.value("{{ PID-5.9 }}")(GIVEN) is None


def test_mistake_in_a_file_says_file_line_and_column(kit: Kit) -> None:
    (kit.folder / "templates/bad.json.j2").write_text('{"a":\n  {{ patient.famly }}}')
    with pytest.raises(
        ExpressionError, match=r"^templates/bad.json.j2:2:14: patient has no famly; did you mean family"
    ) as caught:
        kit.template("templates/bad.json.j2", "json")
    assert caught.value.file == "templates/bad.json.j2"


def test_failure_in_a_file_says_file_and_line(kit: Kit) -> None:
    (kit.folder / "templates/int.txt.j2").write_text("a\n{{ PID-5.1 | int }}")
    with pytest.raises(Exception, match=r"^templates/int.txt.j2:2: is not a whole number$"):
        kit.template("templates/int.txt.j2")(GIVEN)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../outside.j2", "no path below"),
        ("/etc/x.j2", "no path below"),
        ("templates/../../outside.j2", "no path below"),
        ("templates\\hello.txt.j2", "no path below"),
        ("templates/helo.txt.j2", "did you mean templates/hello.txt.j2?"),
        ("templates", None),
        ("link.j2", "leads out"),
        ("linked/outside.j2", "leads out"),
        ("templates/latin.txt.j2", "cannot be read"),
    ],
)
def test_path_that_leads_elsewhere_is_refused(kit: Kit, path: str, says: str | None) -> None:
    (kit.folder / "link.j2").symlink_to(kit.folder.parent / "outside.j2")
    (kit.folder / "linked").symlink_to(kit.folder.parent)
    (kit.folder / "templates/latin.txt.j2").write_bytes(b"M\xfcller")
    if says is None:
        assert kit.template(path)(GIVEN) == path  # no .j2: a text
        return
    with pytest.raises(ExpressionError) as caught:
        kit.template(path)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_script_is_loaded_once_under_a_name_of_its_own(kit: Kit) -> None:
    path = list(sys.path)
    rule = kit.script("scripts/rules.py:rule")
    assert rule is kit.script("scripts/rules.py:rule")
    assert rule.__module__.startswith("_channel_script_")
    assert sys.path == path
    assert "rules" not in sys.modules
    assert not (kit.folder / "scripts/__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("scripts/rules.py", "names no function"),
        ("scripts/rules:rule", "names no function"),
        ("scripts/rules.py:", "names no function"),
        ("scripts/rule.py:rule", "did you mean scripts/rules.py?"),
        ("scripts/rules.py:rules", "did you mean rule?"),
        ("scripts/rules.py:value", "has no function value"),
        ("scripts/rules.py:math", "has no function math"),
        ("../outside.py:rule", "no path below"),
        ("scripts/broken.py:rule", "broken.py is no Python: .* at line 2"),
        ("scripts/raises.py:rule", "ModuleNotFoundError at line 1"),
    ],
)
def test_script_that_cannot_be_had_is_explained(kit: Kit, name: str, says: str) -> None:
    (kit.folder / "scripts/broken.py").write_text("def rule(d):\nreturn d\n")
    (kit.folder / "scripts/raises.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(ExpressionError, match=says.replace("?", r"\?")) as caught:
        kit.script(name)
    assert isinstance(caught.value, ScriptError) or "scripts/rules.py?" in says or "path" in says


def test_declared_names_are_known_from_then_on(kit: Kit) -> None:
    with pytest.raises(ExpressionError):
        kit.expression("ward")
    kit.declare("ward")
    assert kit.expression("ward").names == {"ward"}
    assert kit.template("{{ ward }}").names == {"ward"}
