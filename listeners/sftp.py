"""This module lets messages in from files on an SFTP server, by the rules of files in a local folder."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from broker.parts import Tools
from broker.spec import Seconds
from broker.ssh import find_login
from listeners.folder import FolderListener, FolderSpec
from listeners.notes import Notes


class SftpSpec(FolderSpec):
    """Files on an SFTP server; each is copied once it is whole, read here, and then moved away there."""

    word: ClassVar[str] = "sftp"

    place: str = Field(min_length=1, description="Name of the server, as under `places:` in handoff.yaml.")
    folder: str = Field(min_length=1, description="Where files arrive; relative to where the user begins there.")
    poll: Seconds = Field(default=10.0, ge=0.05, description="How often the folder is looked at.")
    connections: int = Field(default=4, ge=1, le=20, description="Connections, each with one file under way.")
    connect: Seconds = Field(default=10.0, gt=0, description="How long it may take until a connection stands.")
    timeout: Seconds = Field(default=60.0, gt=0, description="How long the server may take to answer.")

    def build(self, tools: Tools) -> FolderListener:
        """Build the listener; raise `ConfigError` when the place or its keys are missing or unreadable."""
        from listeners.sftp_inbox import SftpInbox  # noqa: PLC0415 - paramiko costs 200 ms, which `check` need not pay

        where = f"channel {tools.channel}: listen.sftp.place"
        login = find_login(tools.settings, self.place, where, self.connect, self.timeout)
        local = Path(tools.settings.data) / "sftp" / tools.channel
        inbox = SftpInbox(login, self, local, f".handoff-{tools.channel}", self.connections)
        return FolderListener(self, tools, inbox, Notes(local), self.connections + 2)
