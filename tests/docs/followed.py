"""This module follows a page as a newcomer does: its files into a real engine's folder, then its commands."""

import re
import subprocess
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.functional.running import HANDOFF, Running
from tests.ports import free_port

HOWTO: Final = Path(__file__).parents[2] / "docs" / "howto"
FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ID: Final = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{13}\b")


def follow(page: str, endpoint: str, folder: Path, variables: Mapping[str, str]) -> list[str]:
    """Lay out what a page says, start the engine, and run each command; return what each gave.

    Every block ``sh`` with a block ``text`` behind it must give that text, but for the ids of messages. ``endpoint`` is
    the page's; a free one is taken instead. ``variables`` are in the environment of engine and commands.
    """
    engine = Running(folder)
    engine.environment |= {**variables, "PATH": f"{HANDOFF.parent}:{engine.environment['PATH']}"}
    text = (HOWTO / page).read_text().replace(endpoint, f"127.0.0.1:{free_port()}")
    blocks = FENCE.findall(text)
    for block in (block for language, block in blocks if language == "yaml"):
        if block.startswith("# handoff.yaml"):
            settings = folder / "handoff.yaml"
            settings.write_text(f"{settings.read_text()}\n{block}")
        else:
            name = block.partition("\n")[0].removeprefix("channel: ")
            (folder / "channels" / f"{name}.yaml").write_text(block)
    given: list[str] = []
    with engine:
        for (language, command), (after, shown) in pairwise(blocks):
            if (language, after) == ("sh", "text"):
                given.append(_run(command, engine))
                assert ID.sub("ID", given[-1]).strip() == ID.sub("ID", shown).strip(), (command, engine.log.read_text())
    return given


def _run(command: str, engine: Running) -> str:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True, env=engine.environment
    ).stdout
