"""This module confines the process that runs users' code: it reads few files, changes none, and reaches nobody.

No rights are needed for that. The kernel's Landlock says what may be opened, its seccomp filter what may be asked for;
an engine that runs as root adds an empty network. `what_is_missing` says what this machine cannot do of it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config import landlock, seccomp

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x40000000

REMEDY: Final = (
    "run the engine on Linux 5.13 or later with Landlock, on x86_64 or aarch64, "
    "or let only people write scripts who may do all of that"
)

_CODE: Final = Path(__file__).resolve().parents[1]  # the folder of our packages
_LIBRARIES: Final = ("lib", "lib64")  # below the prefixes of Python
_OF_THE_SYSTEM: Final[tuple[str, ...]] = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"),
    *("/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies"),
    # Time zones and languages.
    *("/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/etc/zoneinfo", "/etc/locale.alias"),
    *("/usr/share/locale", "/usr/share/i18n", "/etc/mime.types"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/sys/devices/system/cpu"),
)


@dataclass(frozen=True, slots=True)
class Places:
    """What a worker process may read of an engine's folders, and what it may not, wherever that lies.

    ``secret`` are the data folder and the stores; of ``root``, the folder of handoff.yaml, it reads ``channels`` alone.
    """

    channels: Path | None = None
    root: Path | None = None
    secret: tuple[Path, ...] = ()

    def as_text(self) -> str:
        """Return it as one text, which `from_text` reads."""
        given = [None if each is None else str(each) for each in (self.channels, self.root)]
        return json.dumps([*given, *map(str, self.secret)])

    @classmethod
    def from_text(cls, text: str) -> "Places":
        """Return what `as_text` wrote; of an empty text, an engine without any folder."""
        given: list[str | None] = json.loads(text or "[null, null]")
        channels, root, *secret = [None if each is None else Path(each) for each in given]
        return cls(channels, root, tuple(filter(None, secret)))

    def readable(self) -> Iterator[Path]:
        """Give all places that a worker process may read: what Python needs, and the channels' folder."""
        root = _real([self.root] if self.root else [])
        secret = _real(self.secret)
        channels = [self.channels] if self.channels else []
        for place in _real([*_of_python(root), *map(Path, _OF_THE_SYSTEM), *channels]):
            yield from _without(place, secret | (root - {place}))


def _of_python(root: set[Path]) -> Iterator[Path]:
    """Give the folders of Python, and of what it can import; where that stands among other things, it alone."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    libraries = _real(Path(prefix, name) for prefix in prefixes for name in _LIBRARIES)
    yield from libraries
    for folder in _real([*map(Path, filter(None, sys.path)), _CODE]):
        if libraries.isdisjoint((folder, *folder.parents)):
            yield from _importable(folder) if folder in root | {_CODE} else (folder,)


def _importable(folder: Path) -> Iterator[Path]:
    for path in _children(folder):
        if path.suffix in {".py", ".so"} or (path / "__init__.py").is_file():
            yield path


def _without(place: Path, hidden: set[Path]) -> Iterator[Path]:
    """Give a place or, where something hidden lies in it, all else that is in it now: no rule takes back another."""
    if not any(each == place or place in each.parents for each in hidden):
        yield place
    elif place not in hidden:
        for path in _children(place):
            if not path.is_symlink():  # what it leads to has a place of its own, or is none of ours
                yield from _without(path, hidden)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _real(paths: Iterable[Path]) -> set[Path]:
    return {Path(os.path.realpath(path)) for path in paths}


def close_others(*kept: int) -> None:
    """Close every file but the standard ones and these, whoever left it open."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, max(first, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def confine(places: Places, memory: int) -> None:
    """Confine this process for good, to these places and so many bytes of memory (0: as much as there is).

    Raises `OSError` where the kernel has the means and refuses to use them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_CLONE_NEWNET)  # an empty network where the engine may ask for one; sockets are forbidden anyway
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine ends us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sys.dont_write_bytecode = True  # it could not
    if landlock.version():
        landlock.leave_only(places.readable())
    if seccomp.is_there():
        seccomp.forbid_calls()


def what_is_missing() -> str:
    """Say what scripts can do because this machine cannot confine them wholly; nothing where it can."""
    lacking = []
    if not landlock.version():
        lacking.append(("Landlock", "read all that the engine may read, the key and the patient store too"))
    if not seccomp.is_there():
        lacking.append(("a seccomp filter", "reach other machines and processes"))
    if not lacking:
        return ""
    means, acts = zip(*lacking, strict=True)
    return f"without {' and '.join(means)} in the kernel, scripts of channels can {' and '.join(acts)}"
