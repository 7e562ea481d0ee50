"""This module leaves a process only those files that are named, by the kernel's Landlock, which needs no rights.

Whatever is opened from then on must lie at or below a place that was named; nothing can be written, made, removed or
run. Calls that are not there in older versions of Landlock are left out of the rules (Linux 5.13 has version 1).
(docs.kernel.org/userspace-api/landlock.html)
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# The numbers are the same on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_VERSION: Final = 1
_BELOW_A_PLACE: Final = 1

_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
# Version -> how many kinds of access to files it knows, from 1 << 0 on: to run, write, read, remove, make …; to rename
# into other folders; to truncate; and to control devices. It asks nobody about a kind that it was not told of.
_KINDS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
_NETWORK: Final = (4, 0b11)  # from this version on: to bind and connect over TCP
_SCOPES: Final = (6, 0b11)  # likewise: abstract Unix sockets, and signals, of processes outside


def version() -> int:
    """Return the version of Landlock; 0 where the kernel has none, or was told to have none."""
    found = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_FOR_VERSION)
    return max(int(found), 0)


def leave_only(places: Iterable[Path]) -> None:
    """Let this process read what lies at or below these places, and open nothing else.

    Places that are not there are passed over. The process must have said before that it wants to gain no privileges
    (PR_SET_NO_NEW_PRIVS). Raises `OSError` where the kernel refuses.
    """
    found = version()
    rules = _made(_ruleset(found), "ruleset")
    try:
        for place in places:
            _add(rules, place)
        _made(_libc().syscall(_RESTRICT_SELF, rules, 0), "restriction")
    finally:
        os.close(rules)


def _ruleset(found: int) -> int:
    kinds = max(number for since, number in _KINDS.items() if since <= found)
    asked = [(1 << kinds) - 1, *(bits for since, bits in (_NETWORK, _SCOPES) if since <= found)]
    attributes = struct.pack(f"={len(asked)}Q", *asked)
    return int(_libc().syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))


def _add(rules: int, place: Path) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # who cannot get at it need not be let
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        allowed = _READ_FILE | _READ_FOLDER if is_folder else _READ_FILE
        rule = struct.pack("=Qi", allowed, descriptor)
        _made(_libc().syscall(_ADD_RULE, rules, _BELOW_A_PLACE, rule, 0), "rule")
    finally:
        os.close(descriptor)


def _made(returned: int, what: str) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock's {what}: {os.strerror(number)}")
    return returned


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
