"""This module brings files and their names to disk, so that they outlive a crash of the machine."""

import errno
import os
from pathlib import Path
from typing import BinaryIO, Final

_NO_SUCH_THING: Final = frozenset({errno.EINVAL, errno.ENOTSUP})  # of some mounted folders


def write_to_disk(file: BinaryIO, content: bytes) -> None:
    """Write, and return once the content is on disk."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def keep_names(folder: Path) -> None:
    """Return once the names in a folder are on disk, where its file system knows of that; raise `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise
    finally:
        os.close(descriptor)
