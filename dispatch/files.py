"""This module writes messages into files of a folder, local or mounted."""

import contextlib
import errno
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import Field

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from broker.durable import keep_names, write_to_disk
from dispatch.filing import Exists, File, FileOutSpec, Filing, there_already

if TYPE_CHECKING:
    from broker.parts import Destination, Tools

_NEVER: Final = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR})  # the name cannot be had here
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class FilesOutSpec(FileOutSpec):
    """Files in a local or mounted folder; a relative one starts at the folder of handoff.yaml."""

    mode: str = Field(default="0640", pattern="^0?[0-7]{3}$", description="Who may read a file, in octal digits.")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half."""
        root = getattr(tools.settings, "root", None) or Path()
        folder = root / self.folder
        temporary = folder / self.temporary if self.temporary else folder
        return Filing(Folder(folder, temporary, int(self.mode, 8)), self, time.time, tools.marks)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; see `dispatch.filing.Place`."""

    folder: Path
    temporary: Path
    mode: int = 0o640

    @property
    def peer(self) -> str:
        """How reasons call it."""
        return f"folder {self.folder}"

    def close(self) -> None:
        """Let go of nothing."""

    def put(self, file: File, exists: Exists) -> Outcome:
        """Write one file, bring it to disk, and rename it."""
        target, temporary = self.folder / file.name, self.temporary / file.temporary
        try:
            found = self._found(target, file, exists)
            if found is not None:
                return found
            self._write(temporary, file.content)
            try:
                if exists == "replace":
                    temporary.rename(target)
                elif not _link(temporary, target):
                    return self._found(target, file, exists) or Retry(f"{self.peer}: a file appeared and went")
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
        except OSError as error:
            return _refused(error, self.peer)
        return self._kept(file)

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of the file of a name, None where there is none; raise `OSError` when nobody can say."""
        try:
            with (self.folder / name).open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    def _found(self, target: Path, file: File, exists: Exists) -> Outcome | None:
        same = _holds(target, file.content)
        return None if same is None else there_already(file, exists, self.peer, same=same)

    def _write(self, temporary: Path, content: bytes) -> None:
        with os.fdopen(os.open(temporary, _OPEN, self.mode), "wb") as opened:
            os.fchmod(opened.fileno(), self.mode)  # whatever the umask is
            write_to_disk(opened, content)

    def _kept(self, file: File) -> Outcome:
        """Bring the new name to disk."""
        try:
            keep_names(self.folder)
        except OSError as error:
            return Unknown(f"{self.peer}: the file is there, and may not outlive a crash ({error.strerror})")
        return Delivered(reference=file.name)


def _holds(path: Path, content: bytes) -> bool | None:
    """Say whether a file has a content; None where there is no file."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            return os.fstat(opened.fileno()).st_size == len(content) and opened.read(len(content) + 1) == content
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EACCES, errno.EISDIR, errno.ENXIO}:
            return False  # whatever it is, it is not what we wrote
        raise


def _link(temporary: Path, target: Path) -> bool:
    """Give the file its name unless another has it; say whether that worked."""
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            return False
        temporary.rename(target)  # a file system without links: the next best, since the name is ours alone
    return True


def _refused(error: OSError, peer: str) -> Outcome:
    why = error.strerror or type(error).__name__
    if error.errno in _NEVER:
        return Rejected(f"{peer}: the file cannot have its name here ({why})")
    return Retry(f"{peer}: the file could not be written ({why})", is_away=True)
