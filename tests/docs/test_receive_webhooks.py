"""The page on webhooks does what it says: what openssl signs is taken once, and commands give what it shows."""

from pathlib import Path

from tests.conftest import Need
from tests.docs.followed import follow


def test_the_commands_of_the_page_give_what_it_shows(need: Need, tmp_path: Path) -> None:
    need("curl")
    need("openssl")
    given = follow("receive-webhooks.md", "127.0.0.1:8610", tmp_path, {"STRIPE_SECRET": "whsec_practice"})
    assert len(given) == 5
