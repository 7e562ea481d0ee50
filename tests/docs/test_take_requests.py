"""The page on HTTP does what it says: its channels run in a real engine, and its commands give what it shows."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.conftest import Need
from tests.functional.running import Running
from tests.ports import free_port

PAGE: Final = Path(__file__).parents[2] / "docs" / "howto" / "take-requests.md"
FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ID: Final = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{13}\b")


def test_the_commands_of_the_page_give_what_it_shows(need: Need, tmp_path: Path) -> None:
    need("curl")
    engine, port = Running(tmp_path), free_port()
    engine.environment["PORTAL_TOKEN"] = "sesame"
    page = PAGE.read_text().replace("127.0.0.1:8600", f"127.0.0.1:{port}")
    blocks = FENCE.findall(page)
    for language, text in blocks:
        if language == "yaml" and text.startswith("# handoff.yaml"):
            settings = tmp_path / "handoff.yaml"
            settings.write_text(f"{settings.read_text()}\n{text}")
        elif language == "yaml":
            name = text.partition("\n")[0].removeprefix("channel: ")
            (tmp_path / "channels" / f"{name}.yaml").write_text(text)
    pairs = [
        (text, shown) for (language, text), (after, shown) in pairwise(blocks) if (language, after) == ("sh", "text")
    ]
    assert len(pairs) == 5
    ids: list[str] = []
    with engine:
        for command, shown in pairs:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
            assert ID.sub("ID", done.stdout).strip() == ID.sub("ID", shown).strip(), engine.log.read_text()
            ids += ID.findall(done.stdout)
    assert ids[0] == ids[1]  # the message that came twice is one
