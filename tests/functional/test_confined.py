"""What a channel's script can get at: what it needs, and nothing of the engine's; run by root and by anybody else."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from broker.processes import Item
from config import landlock, seccomp
from config.build import content_of
from config.check import check
from config.settings import load
from config.workers import make_worker
from tests.project import Project
from tests.unprivileged import ACCOUNT, give

pytestmark = pytest.mark.skipif(
    not (landlock.version() and seccomp.is_there()), reason="this kernel has no Landlock or no seccomp filters"
)

CHANNEL: Final = """\
channel: curious
listen: {files: {folder: inbox}}
format: {csv: {columns: [name, order]}}
steps:
  - set: {found: row.order}
  - canonical: {kind: patient.updated, patient: {mrn: row.name}}
  - script: scripts/curious.py:obey
deliver:
  store: {prm: {}}
"""
# The order is an expression; what it came to, or the error's number, is the value `found`.
SCRIPT: Final = """\
import asyncio, ctypes, errno, fcntl, os, signal, socket, sqlite3, struct, subprocess
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
engine = f"/proc/{os.getppid()}"


def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def obey(document):
    try:
        found = eval(document.values["found"], globals())
    except OSError as error:
        found = errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    document.values["found"] = str(found)
    return document
"""
KEPT: Final = {
    "its own folder": ("Path(root, 'channels/scripts/curious.py').read_text()[:14]", "import asyncio"),
    "time zones": ("__import__('zoneinfo').ZoneInfo('America/New_York').key", "America/New_York"),
    "encodings": ("'ä'.encode('cp500')[0]", "67"),
    "libraries of the system": ("__import__('lzma').decompress(__import__('lzma').compress(b'x'))", "b'x'"),
    "our packages": ("__import__('transforms.dictionary') and 1", "1"),
    "their data": ("__import__('hl7apy.v2_3_1').__name__", "hl7apy"),
    "more data": (
        "__import__('phonenumbers').is_valid_number(__import__('phonenumbers').parse('+493012345678'))",
        "True",
    ),
    "threads": ("__import__('concurrent.futures').futures.ThreadPoolExecutor().submit(int).result()", "0"),
    "a loop": ("asyncio.run(asyncio.sleep(0, 7))", "7"),
    "chance": ("len(os.urandom(2) + __import__('uuid').uuid4().bytes)", "18"),
    "signals to itself": ("os.kill(os.getpid(), 0)", "None"),
}
REFUSED: Final = {
    "the key": ("open(f'{root}/var/handoff.key', 'rb')", "EACCES"),
    "the token": ("open(f'{root}/var/console.token')", "EACCES"),
    "the patients": (
        "sqlite3.connect(f'file:{root}/var/patients.db?immutable=1', uri=True).execute('select 1 from a')",
        "OperationalError: unable to open database file",
    ),
    "the data folder": ("os.listdir(f'{root}/var')", "EACCES"),
    "the settings": ("open(f'{root}/handoff.yaml')", "EACCES"),
    "the folder above": ("os.listdir(root)", "EACCES"),
    "a link to the key": ("open(f'{root}/channels/link')", "EACCES"),
    "the engine's environment": ("open(f'{engine}/environ')", "EACCES"),
    "the engine's memory": ("open(f'{engine}/mem', 'rb')", "EACCES"),
    "the engine's files": ("os.listdir(f'{engine}/fd')", "EACCES"),
    "a file of the engine's": ("open(f'{engine}/fd/0')", "EACCES"),
    "accounts": ("open('/etc/shadow')", "EACCES"),
    "writing": ("open(f'{root}/channels/new', 'w')", "EPERM"),
    "changing": ("open(f'{root}/channels/curious.yaml', 'a')", "EPERM"),
    "removing": ("os.unlink(f'{root}/channels/curious.yaml')", "EPERM"),
    "rights": ("os.chmod(f'{root}/var/handoff.key', 0o644)", "EPERM"),
    "a socket": ("socket.socket()", "EPERM"),
    "a connection": ("socket.create_connection(('127.0.0.1', 9), 1)", "EPERM"),
    "a socket of the machine": ("socket.socket(socket.AF_UNIX)", "EPERM"),
    "a raw socket": ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EPERM"),
    "a pair that sends anywhere": ("socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    "rings": ("call('syscall', 425, 8, ctypes.create_string_buffer(256))", "EPERM"),
    "tracing": ("call('ptrace', 16, os.getppid(), 0, 0)", "EPERM"),
    "reading memory": ("call('process_vm_readv', os.getppid(), 0, 0, 0, 0, 0)", "EPERM"),
    "name spaces": ("call('unshare', 0x10000000)", "EPERM"),
    "programs": ("subprocess.run(['/bin/true'])", "EPERM"),
    "ending the engine": ("os.kill(os.getppid(), 0)", "EPERM"),
    "ending all": ("os.kill(0, 0)", "EPERM"),
    "typing for the operator": ("fcntl.ioctl(2, 0x5412, b'x')", "EPERM"),
    "limits of others": ("__import__('resource').prlimit(os.getppid(), 7)", "EPERM"),
    "secrets": ("[name for name in os.environ if 'SECRET' in name]", "[]"),
}
READ_WITHOUT_LANDLOCK: Final = {
    *("the key", "the token", "the patients", "the data folder", "the settings", "the folder above"),
    *("a link to the key", "accounts", "the engine's environment", "the engine's memory", "the engine's files"),
    "a file of the engine's",
}
MESSAGE: Final = b"MSH|^~\\&|A|B|C|D|2026||ADT^A08|1|P|2.5.1\rPID|1||7^^^H^MR||Okafor^Ada||19620910|F\rPV1|1|I\r"


def found(command: list[str], given: Mapping[str, Any]) -> dict[str, str]:
    """Run every order in one worker process, as the account that ``given`` names; return what each came to."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "channels/scripts").mkdir(parents=True)
        (root / "var").mkdir(mode=0o700)
        (root / "handoff.yaml").write_text("data: var\n")
        (root / "channels/curious.yaml").write_text(CHANNEL)
        (root / "channels/scripts/curious.py").write_text(f"{SCRIPT}\nroot = {name!r}\n")
        for file in ("handoff.key", "console.token", "patients.db"):
            (root / "var" / file).write_bytes(b"SQLite format 3\0")
        (root / "channels/link").symlink_to(root / "var/handoff.key")
        rows = io.StringIO()
        csv.writer(rows).writerows(
            [("name", "order"), *((name, order) for name, (order, _) in (KEPT | REFUSED).items())]
        )
        (root / "a.csv").write_text(rows.getvalue())
        if given:
            give(root)
        options = ["--config", f"{root}/handoff.yaml", "show", f"{root}/a.csv", "--channel", "curious", "--json"]
        environment = {"PATH": os.environ["PATH"], "SECRET_OF_OURS": "sesame"}
        ended = subprocess.run(
            [*command, *options, "--at", "row.name", "--at", "found"],
            env=environment,
            cwd=root,
            capture_output=True,
            check=False,
            **given,
        )
        seen = [json.loads(line)["values"] for line in ended.stdout.splitlines()]
        assert seen, ended.stderr
        return {values["row.name"]: values["found"] for values in seen}


def nobody() -> dict[str, Any]:
    return {"user": ACCOUNT.pw_uid, "group": ACCOUNT.pw_gid, "extra_groups": []}


@pytest.fixture(params=["whoever runs the tests", "nobody"], scope="module")
def account(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Who runs the engine: root or not, where the tests may choose."""
    if request.param != "nobody":
        yield {}
        return
    if os.geteuid():
        pytest.skip("only root can run as somebody else, and the other case has run as an ordinary user")
    tried = subprocess.run(
        [sys.executable, "-c", "import config.process"], check=False, capture_output=True, **nobody()
    )
    if tried.returncode:
        pytest.skip(f"{ACCOUNT.pw_name} cannot run this Python")
    yield nobody()


def test_script_gets_what_it_needs_and_nothing_else(account: dict[str, Any]) -> None:
    come_to = found([sys.executable, "-m", "console.cli.main"], account)
    assert come_to == {name: result for name, (_, result) in (KEPT | REFUSED).items()}


def test_scripts_of_a_folder_that_took_the_place_of_another_are_read(tmp_path: Path) -> None:
    """A deployment swaps the folder of channels; what a process may read stays with the old one."""

    async def results() -> list[str | None]:
        for release, raised in (("old", "ValueError"), ("new", "KeyError")):
            project = Project(tmp_path / release)
            project.write("channels/scripts/rules.py", f"def house_rules(document):\n    raise {raised}\n")
        (tmp_path / "new/handoff.yaml").unlink()
        channels = tmp_path / "channels"
        channels.symlink_to("old/channels")
        settings = load(tmp_path / "old/handoff.yaml", sets=[f"channels={channels}"])
        worker = make_worker(settings, lambda _: None)
        (plan,) = check(settings).channels
        worker.start()
        said = []
        try:
            async with asyncio.timeout(30):
                for release in ("old/channels", "new/channels"):
                    channels.unlink()
                    channels.symlink_to(release)
                    worker.load("feed", content_of(plan, channels))
                    await worker.ready
                    (result,) = await worker.run("feed", [Item(1, 0.0, MESSAGE)])
                    said.append(result.reason)
        finally:
            await worker.stop()
        return said

    assert asyncio.run(results()) == [
        f"scripts/rules.py:house_rules raised {one} at line 2" for one in ("ValueError", "KeyError")
    ]


def test_where_a_machine_has_no_landlock_scripts_still_reach_nobody_and_change_nothing() -> None:
    """A filter of ours answers as such a kernel does."""
    launcher = (
        "import ctypes, os, sys\n"
        "from config import seccomp\n"
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"
        "seccomp.install([(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)])\n"  # ENOSYS
        "os.execv(sys.executable, [sys.executable, '-m', 'console.cli.main', *sys.argv[1:]])\n"
    )
    come_to = found([sys.executable, "-c", launcher], {})
    told = {name: result for name, (_, result) in (KEPT | REFUSED).items()}
    assert {name for name, result in come_to.items() if told[name] != result} == READ_WITHOUT_LANDLOCK
