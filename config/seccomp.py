"""This module takes system calls from a process for good, by the kernel's seccomp filter, which needs no rights.

What a worker process has no use for fails with EPERM: sockets, other processes, programs, changes to files, and what
administers a machine. (docs.kernel.org/userspace-api/seccomp_filter.html; numbers of calls: the kernel's unistd.h.)
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# Call -> its number on x86_64 and on aarch64, which has no number for what newer calls do as well.
_DENIED: Final[Mapping[str, tuple[int, int | None]]] = {
    # Talk to others: over the network, past this filter (io_uring), through the kernel's queues and shared memory.
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    # Look into other processes, or disturb them.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "perf_event_open": (298, 241),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Start programs.
    "execve": (59, 221),
    "execveat": (322, 281),
    # Change files, or open them in a way whose flags this filter cannot see.
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    # Administer the machine: an engine that runs as root lends no step its powers.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
}
# Likewise, calls of which some uses stay.
_LIMITED: Final[Mapping[str, tuple[int, int | None]]] = {
    "open": (2, None),
    "openat": (257, 56),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
}

# As uname calls it -> what the kernel calls it (linux/audit.h), and which of the two numbers is its own.
_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32_CALLS: Final = 0x40000000  # from here on, x86_64 takes the same calls under other numbers

_PR_GET_SECCOMP: Final = 21
_SECCOMP_CALL: Final = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER: Final = 1
_FOR_ALL_THREADS: Final = 1
# Without this, kernels before 5.16 slow a filtered process down, for fear of what it may learn of its own memory.
_AT_FULL_SPEED: Final = 4

# Instructions (linux/bpf_common.h): load a word, keep some bits of it, compare, return.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _FORBID, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
# Where the words are that are loaded (struct seccomp_data); arguments are read by their lower half.
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16

_AF_UNIX: Final = 1
_STREAM, _KIND_OF_SOCKET = 1, 0xF
# O_WRONLY, O_RDWR, O_CREAT and O_TRUNC, on both machines.
_CHANGES: Final = 0o1 | 0o2 | 0o100 | 0o1000
_TYPES_AT_A_TERMINAL: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: standard error may be an operator's terminal

Instruction = tuple[int, int, int, int]  # code, where to if so, where to if not so, and the value


def is_there() -> bool:
    """Tell whether this kernel filters calls, on a machine whose calls are known here."""
    libc = ctypes.CDLL(None, use_errno=True)
    return platform.machine() in _MACHINES and libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def forbid_calls() -> None:
    """Forbid them to this process and all that it starts. Raises `OSError` as `install` does."""
    install(list(write_filter(platform.machine(), os.getpid())))


def install(written: Sequence[Instruction]) -> None:
    """Put this process and all that it starts under a filter. Raises `OSError` where the kernel refuses.

    The process must have said before that it wants to gain no privileges (PR_SET_NO_NEW_PRIVS).
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in written))
    header = struct.pack("@HP", len(written), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    call, flags = _SECCOMP_CALL[platform.machine()], _FOR_ALL_THREADS | _AT_FULL_SPEED
    if libc.syscall(call, _SET_MODE_FILTER, flags, header):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def write_filter(machine: str, process: int) -> Iterator[Instruction]:
    """Give the filter of one process, by its id, for one kind of machine."""
    name, column = _MACHINES[machine]
    yield (_LOAD, 0, 0, _MACHINE)
    yield (_IF_EQUAL, 1, 0, name)
    yield (_RETURN, 0, 0, _KILL)  # a call of another machine, which would go by other numbers
    yield (_LOAD, 0, 0, _NUMBER)
    if machine == "x86_64":
        yield from _unless(_IF_AT_LEAST, _X32_CALLS)
    for call, condition in _conditions(process).items():
        number = _LIMITED[call][column]
        if number is not None:
            yield (_IF_EQUAL, 0, len(condition), number)
            yield from condition
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            yield from _unless(_IF_EQUAL, number)
    yield (_RETURN, 0, 0, _ALLOW)


def _unless(test: int, value: int) -> tuple[Instruction, ...]:
    """Forbid where a test holds of what is loaded; else go on."""
    return ((test, 0, 1, value), (_RETURN, 0, 0, _FORBID))


def _conditions(process: int) -> dict[str, tuple[Instruction, ...]]:
    """Return, for each call of which some uses stay, what decides about one."""
    allow, forbid = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FORBID)

    def argument(place: int) -> Instruction:
        return (_LOAD, 0, 0, _ARGUMENT + 8 * place)

    def only(place: int, value: int) -> tuple[Instruction, ...]:
        return (argument(place), (_IF_EQUAL, 1, 0, value), forbid)

    def reading(place: int) -> tuple[Instruction, ...]:
        return (argument(place), (_AND, 0, 0, _CHANGES), (_IF_EQUAL, 1, 0, 0), forbid, allow)

    typing = [each for value in _TYPES_AT_A_TERMINAL for each in _unless(_IF_EQUAL, value)]
    stream = ((_AND, 0, 0, _KIND_OF_SOCKET), (_IF_EQUAL, 1, 0, _STREAM), forbid, allow)
    return {
        "open": reading(1),
        "openat": reading(2),
        # asyncio wakes itself through one. A pair of another kind can be sent from to any socket that has a name.
        "socketpair": (*only(0, _AF_UNIX), argument(1), *stream),
        "ioctl": (argument(1), *typing, allow),
        "kill": (*only(0, process), allow),
        "tgkill": (*only(0, process), allow),
        "prlimit64": (*only(0, 0), allow),  # 0 is who calls
    }
