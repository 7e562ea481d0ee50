"""This module connects to SFTP servers of ``handoff.yaml``, and says in a clear sentence what keeps us out.

A server whose host key is not known is not logged in to. Everything here blocks, and is called from threads.
"""

import contextlib
import logging
from base64 import b64decode
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from broker.errors import ConfigError
from broker.handshake import not_connected
from broker.places import find_place, reveal

if TYPE_CHECKING:
    from pathlib import Path

_KEEPALIVE: Final = 30  # seconds
_NO_WAY: Final = "the server offers only algorithms that are not safe any more"


@dataclass(frozen=True, slots=True)
class Login:
    """How to get in: times are in seconds."""

    name: str
    host: str
    port: int
    user: str
    password: Any = field(repr=False)
    key: Any = field(repr=False)  # a paramiko.PKey
    hosts: Any = field(repr=False)  # paramiko.HostKeys
    connect: float = 10.0
    timeout: float = 60.0


def find_login(settings: Any, name: str, where: str, connect: float, timeout: float) -> Login:
    """Look a place up in the settings, and read its keys; raise `ConfigError` when that cannot be done."""
    place = find_place(settings.places, name, where, "sftp", "SFTP server")
    at = f"handoff.yaml, places.{name}.sftp"
    return Login(
        name=name,
        host=place.host,
        port=place.port,
        user=place.user,
        password=place.password,
        key=_read_key(reveal(place.private_key), reveal(place.passphrase), at) if place.private_key else None,
        hosts=_read_hosts(place, settings.root, at),
        connect=connect,
        timeout=timeout,
    )


def _read_key(text: str, passphrase: str, at: str) -> Any:
    import paramiko  # noqa: PLC0415 - costs 200 ms, which reading a channel file must not

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with contextlib.suppress(paramiko.SSHException, ValueError, IndexError):
            return kind.from_private_key(StringIO(text), passphrase or None)
    hint = "its passphrase does not open it" if passphrase else "or it needs a `passphrase`"
    raise ConfigError(f"{at}.private_key: this is no private key in PEM or OpenSSH form, {hint}")


def _read_hosts(place: Any, root: "Path", at: str) -> Any:
    import paramiko  # noqa: PLC0415 - as above

    hosts = paramiko.HostKeys()
    try:
        if place.known_hosts is not None:
            hosts.load(str(root / place.known_hosts))
        else:
            kind, _, rest = place.host_key.strip().partition(" ")
            key = paramiko.PKey.from_type_string(kind, b64decode(rest.partition(" ")[0]))
            hosts.add(_known_as(place.host, place.port), kind, key)
    except OSError as error:
        raise ConfigError(f"{at}.known_hosts: {place.known_hosts} cannot be read ({error.strerror})") from None
    except (paramiko.SSHException, ValueError, TypeError):
        raise ConfigError(f"{at}: the host key cannot be read; write it as ssh-keyscan does") from None
    if hosts.lookup(_known_as(place.host, place.port)) is None:
        name = _known_as(place.host, place.port)
        raise ConfigError(f"{at}.known_hosts: {place.known_hosts} has no key of {name}; add it with ssh-keyscan")
    return hosts


def _known_as(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"  # noqa: PLR2004 - SSH's own port


class Session:
    """One connection that is logged in."""

    def __init__(self, login: Login) -> None:
        import paramiko  # noqa: PLC0415 - as above

        from broker.sftp_requests import Files  # noqa: PLC0415 - as above

        # Its debug lines hold names of files, and its errors are told by what becomes of our work.
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self._client = client = paramiko.SSHClient()
        client._host_keys = login.hosts  # noqa: SLF001 - there is no other way to give what was read already
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(
                login.host,
                login.port,
                login.user,
                reveal(login.password) or None,
                login.key,
                timeout=login.connect,
                banner_timeout=login.connect,
                auth_timeout=login.connect,
                channel_timeout=login.connect,
                allow_agent=False,
                look_for_keys=False,
                transport_factory=_transport,
            )
            self._transport: Any = client.get_transport()
            self._transport.set_keepalive(_KEEPALIVE)
            self.files: Any = Files.from_transport(self._transport)
            self._channel: Any = self.files.get_channel()
            self._channel.settimeout(login.timeout)
        except BaseException:
            client.close()
            raise

    @property
    def stands(self) -> bool:
        """Whether the connection stands, as far as we know."""
        return bool(self._transport.is_active()) and not self._channel.closed

    @property
    def peer(self) -> Any:
        """The name of the socket's other end; None where there is none any more."""
        try:
            return self._transport.getpeername()
        except OSError:
            return None

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(Exception):
            self._client.close()


def _transport(*given: Any, **options: Any) -> Any:
    import paramiko  # noqa: PLC0415 - as above

    transport = paramiko.Transport(*given, **options)
    security = transport.get_security_options()
    # The modes that authenticate as they encrypt come first: another pass for that costs us a fifth of each packet.
    security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
    return transport


def what_kept_out(error: BaseException) -> str:
    """Say why there is no connection: who is there, whether we may come in, or what the two cannot agree on."""
    import paramiko  # noqa: PLC0415 - as above

    causes = getattr(error, "errors", None)  # of one host, each address with its error
    if isinstance(causes, dict) and causes:
        error = next(iter(causes.values()))
    for kind, words in (
        (paramiko.BadHostKeyException, "its host key is not the one that is known; make sure who it is, then correct"),
        (paramiko.AuthenticationException, "it refused our user, password or key"),
        (paramiko.ssh_exception.IncompatiblePeer, f"{_NO_WAY}{_missing(error)}; its operator must allow newer ones"),
    ):
        if isinstance(error, kind):
            return words
    if "not found in known_hosts" in str(error):
        return "the host key that it shows is of a kind that is not known; add that one"
    return not_connected(error)


def _missing(error: BaseException) -> str:
    """Return which kind of algorithm nobody agreed on: paramiko says it in one of four texts of its own."""
    kinds = ("kex algorithm", "host key", "ciphers", "macs")
    return next((f" ({kind})" for kind in kinds if kind in str(error)), "")
