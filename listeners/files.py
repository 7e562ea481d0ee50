"""This module lets messages in from files in a folder of this machine, be it local or mounted."""

from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field

from broker.parts import Tools
from listeners.folder import FolderListener, FolderSpec
from listeners.inbox import Inbox
from listeners.notes import Notes

_WORKING: Final = ".handoff-{channel}"
_AHEAD: Final = 4  # files that are made ready while one is read


class FilesSpec(FolderSpec):
    """Files in a local folder; each is read once it is whole, and then moved away."""

    word: ClassVar[str] = "files"

    folder: str = Field(min_length=1, description="Where files arrive; relative to the folder of handoff.yaml.")

    def build(self, tools: Tools) -> FolderListener:
        """Build the listener; it takes the folder when it is started."""
        folder = Path(self.folder)
        if not folder.is_absolute() and tools.settings is not None:
            folder = tools.settings.root / folder
        keeps = self.after == "keep"
        if keeps and tools.settings is not None:
            # A folder in which nothing is moved may well be one in which we may not write.
            working = Path(tools.settings.data) / "files" / tools.channel
        else:
            working = folder / _WORKING.format(channel=tools.channel)
        inbox = Inbox(
            folder,
            self.patterns,
            working=working,
            done=folder / self.done if self.after == "move" else None,
            failed=None if keeps else folder / self.failed,
            recursive=self.recursive,
            claims=not keeps,
        )
        return FolderListener(self, tools, inbox, Notes(working), _AHEAD)
