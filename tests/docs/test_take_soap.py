"""The page on SOAP does what it says: its channels run in a real engine, and its commands give what it shows."""

from pathlib import Path

from tests.conftest import Need
from tests.docs.followed import follow


def test_the_commands_of_the_page_give_what_it_shows(need: Need, tmp_path: Path) -> None:
    need("curl")
    assert len(follow("take-soap.md", "127.0.0.1:8640", tmp_path, {"CLINIC_PASSWORD": "sesame"})) == 5
