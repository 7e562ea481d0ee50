"""The page on HTTP does what it says: its channels run in a real engine, and its commands give what it shows."""

from pathlib import Path

from tests.conftest import Need
from tests.docs.followed import ID, follow


def test_the_commands_of_the_page_give_what_it_shows(need: Need, tmp_path: Path) -> None:
    need("curl")
    given = follow("take-requests.md", "127.0.0.1:8600", tmp_path, {"PORTAL_TOKEN": "sesame"})
    assert len(given) == 5
    assert ID.findall(given[0]) == ID.findall(given[1])  # the message that came twice is one
