"""Which places a worker process may read, wherever an engine's folders lie, and what it inherits."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from config import landlock, seccomp
from config.confining import Places, what_is_missing
from config.settings import load
from config.workers import _places


def laid(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def below(root: Path, places: Places) -> set[str]:
    """Return what may be read there, as paths from the root."""
    return {str(path.relative_to(root)) for path in places.readable() if path.is_relative_to(root)}


def test_of_an_engines_folder_the_channels_alone_are_read(tmp_path: Path) -> None:
    laid(tmp_path, "handoff.yaml", "channels/feed.yaml", "var/handoff.key", "tls/key.pem")
    assert below(tmp_path, Places(tmp_path / "channels", tmp_path, (tmp_path / "var",))) == {"channels"}


def test_of_a_folder_of_pythons_path_all_is_read_but_what_is_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine's folder among libraries stays hidden, at whatever depth; links lead nowhere."""
    laid(tmp_path, "lib/a.py", "lib/site/b.py", "lib/site/engine/handoff.yaml", "lib/site/engine/channels/feed.yaml")
    laid(tmp_path, "lib/site/engine/var/handoff.key", "lib/data/patients.db", "lib/data/patients.db-wal", "lib/data/c")
    (tmp_path / "lib/link").symlink_to(tmp_path / "lib/site/engine/var")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "lib")])
    root = tmp_path / "lib/site/engine"
    settings = load(_settings(root, f"patients: sqlite:///{tmp_path}/lib/data/patients.db\n"), environment={})
    assert below(tmp_path, _places(settings)) == {"lib/a.py", "lib/site/b.py", "lib/site/engine/channels", "lib/data/c"}


def test_of_a_folder_with_packages_and_an_engine_the_packages_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the engine is installed from its source, and runs there."""
    laid(
        tmp_path, "handoff.yaml", "ours/__init__.py", "single.py", "native.so", "channels/feed.yaml", "var/key", ".env"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), ""])
    places = Places(tmp_path / "channels", tmp_path, (tmp_path / "var",))
    assert below(tmp_path, places) == {"ours", "single.py", "native.so", "channels"}


def test_secrets_in_the_folder_of_channels_are_hidden_even_there(tmp_path: Path) -> None:
    """`handoff check` has an error then; this is what the process itself sees to."""
    laid(tmp_path, "feed.yaml", "var/key")
    assert below(tmp_path, Places(tmp_path, tmp_path, (tmp_path / "var",))) == {"feed.yaml"}
    assert below(tmp_path, Places(tmp_path, tmp_path, (tmp_path,))) == set()
    assert below(tmp_path, Places(tmp_path / "none", None, ())) == {"none"}


def test_our_own_code_is_read_and_its_folder_is_not() -> None:
    root = Path(__file__).parents[2]
    readable = set(Places(root / "channels", root, (root / "var",)).readable())
    assert root / "transforms" in readable
    assert root not in readable
    assert not readable & {root / "tests", root / "var", Path("/"), Path("/etc"), Path("/proc"), Path("/usr")}


@pytest.mark.parametrize("places", [Places(), Places(Path("/a:b"), Path("/"), (Path("/x"), Path("/y z")))])
def test_places_go_over_as_text(places: Places) -> None:
    assert Places.from_text(places.as_text()) == places
    assert Places.from_text("") == Places()


def test_files_that_somebody_left_open_are_closed() -> None:
    """Also those above the one that stays."""
    kept, *left = (os.memfd_create(name) for name in ("progress", "key", "socket"))
    program = "import os, sys; from config.confining import close_others; close_others(int(sys.argv[1]))"
    program += "\nprint([fd for fd in range(3, 99) if os.path.exists(f'/proc/self/fd/{fd}')])"
    high = os.dup2(left[0], 90, inheritable=True)
    try:
        said = subprocess.check_output([sys.executable, "-c", program, str(kept)], pass_fds=(kept, *left, high))
    finally:
        for descriptor in (kept, *left, high):
            os.close(descriptor)
    assert said.decode().strip() == f"[{kept}]"


def _settings(root: Path, text: str) -> Path:
    (root / "handoff.yaml").write_text(text)
    return root / "handoff.yaml"


@pytest.mark.parametrize(
    ("version", "filters", "told"),
    [
        (1, True, ""),
        (0, True, "without Landlock in the kernel, scripts of channels can read all"),
        (
            4,
            False,
            "without a seccomp filter in the kernel, scripts of channels can reach other machines and processes",
        ),
        (0, False, "without Landlock and a seccomp filter in the kernel, scripts of channels can read all"),
    ],
)
def test_what_a_machine_lacks_is_said_with_what_it_means(
    monkeypatch: pytest.MonkeyPatch, version: int, filters: bool, told: str
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    monkeypatch.setattr(seccomp, "is_there", lambda: filters)
    found = what_is_missing()
    assert found.startswith(told)
    assert bool(found) == bool(told)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_decides_on_every_call_as_it_is_written(machine: str) -> None:
    """Run as the kernel runs it: what is denied, what is limited, and what goes on."""
    written = list(seccomp.write_filter(machine, 77))
    column = 0 if machine == "x86_64" else 1
    name = seccomp._MACHINES[machine][0]

    def decide(number: int, *arguments: int, of: int = name) -> str:
        return {0x7FFF0000: "allow", 0x80000000: "kill", 0x00050001: "forbid"}[run(written, number, of, arguments)]

    for number in filter(None, (numbers[column] for numbers in seccomp._DENIED.values())):
        assert decide(number) == "forbid"
    limited = {call: numbers[column] for call, numbers in seccomp._LIMITED.items()}
    cases: list[tuple[str, tuple[int, ...], str]] = [
        *[("openat", (3, 0, flags), "allow") for flags in (0, os.O_CLOEXEC, os.O_DIRECTORY | os.O_PATH)],
        *[("openat", (3, 0, flags), "forbid") for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)],
        *[("socketpair", (1, kind), "allow") for kind in (1, 1 | os.O_CLOEXEC | os.O_NONBLOCK)],
        *[("socketpair", pair, "forbid") for pair in ((1, 2), (1, 5), (2, 1), (1, 2 | os.O_CLOEXEC))],
        *[("ioctl", (2, what), found) for what, found in ((0x5401, "allow"), (0x5412, "forbid"), (0x541C, "forbid"))],
        *[(call, (who, 9), found) for call in ("kill", "tgkill") for who, found in ((77, "allow"), (1, "forbid"))],
        *[("kill", (who, 9), "forbid") for who in (0, 2**32 - 1)],
        *[("prlimit64", (who, 7), found) for who, found in ((0, "allow"), (1, "forbid"))],
    ]
    for call, arguments, found in cases:
        assert decide(limited[call] or 0, *arguments) == found, (call, arguments)
    assert decide({"x86_64": 0, "aarch64": 63}[machine]) == "allow"  # read
    assert decide(0, of=0x40000003) == "kill"  # i386
    if machine == "x86_64":
        assert decide(0x40000000) == decide(0x40000000 + 41) == "forbid"
        assert [decide(2, 0, flags) for flags in (0, os.O_RDWR)] == ["allow", "forbid"]


def run(written: Sequence[seccomp.Instruction], number: int, machine: int, arguments: Sequence[int]) -> int:
    """Interpret a filter over one call."""
    words = {0: number, 4: machine} | {16 + 8 * place: each & 0xFFFFFFFF for place, each in enumerate(arguments)}
    at = held = 0
    while True:
        code, yes, no, value = written[at]
        at += 1
        if code == 0x20:
            held = words.get(value, 0)
        elif code == 0x54:
            held &= value
        elif code == 0x06:
            return value
        else:
            at += yes if (held == value if code == 0x15 else held >= value) else no
