"""Where a QuestDB server is and how to be let in: the client's own configuration string, read once."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from market.errors import UsageError

_PORTS = {"http": 9000, "https": 9000}
_KEYS = {"addr", "username", "password", "token", "tls_verify", "tls_ca", "tls_roots"}


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and what it asks for; secrets are kept out of its text."""

    scheme: str
    host: str
    port: int
    options: dict[str, str] = field(repr=False)  # the rest of the string, as the client knows it

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def conf(self, **ours: str) -> str:
        """Write the client's configuration string, with settings of ours."""
        pairs = {"addr": _join(self.host, self.port), **self.options, **ours}
        return f"{self.scheme}::" + "".join(
            f"{key}={value.replace(';', ';;')};" for key, value in pairs.items()
        )

    def headers(self) -> dict[str, str]:
        """Write what SQL over HTTP must carry to be let in."""
        if token := self.options.get("token"):
            return {"Authorization": f"Bearer {token}"}
        if user := self.options.get("username"):
            secret = f"{user}:{self.options['password']}".encode()
            return {"Authorization": f"Basic {b64encode(secret).decode()}"}
        return {}

    def tls(self) -> ssl.SSLContext | None:
        """Prepare to check the server's certificate as the client does; None over plain HTTP."""
        if self.scheme != "https":
            return None
        roots = self.options.get("tls_roots")
        try:
            context = ssl.create_default_context(cafile=roots)
        except OSError as error:
            raise UsageError(f"questdb.url: tls_roots: {roots} holds no certificates: {error}") from error
        if self.options.get("tls_verify") == "unsafe_off":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse(url: str) -> Address:
    """Read `http::addr=host:9000;username=...;password=...;`; raises UsageError, which shows no secret."""
    scheme, separator, rest = url.partition("::")
    if not separator or scheme not in _PORTS:
        raise UsageError('questdb.url: expected "embedded" or "http::addr=host:9000;" (or https::)')
    options = _options(rest)
    _check(options)
    host, port = _split(options.pop("addr"), _PORTS[scheme])
    return Address(scheme, host, port, options)


def check_url(url: str) -> None:
    """Raise UsageError for an address, or an option in it, that the store does not understand."""
    parse(url)


def _options(text: str) -> dict[str, str]:
    """Split at `;`; a doubled one belongs to the value."""
    options: dict[str, str] = {}
    for part in text.replace(";;", "\0").split(";"):
        key, separator, value = part.partition("=")
        if not part:
            continue
        if not separator or key not in _KEYS:
            known = ", ".join(sorted(_KEYS))  # its own text may be a password's, cut by its semicolon
            raise UsageError(f"questdb.url: expected only {known}; a semicolon in a value is written twice")
        if key in options:
            raise UsageError(f"questdb.url: {key} is given twice")
        options[key] = value.replace("\0", ";")
    return options


def _check(options: dict[str, str]) -> None:
    if not options.get("addr"):
        raise UsageError("questdb.url: addr is missing")
    if ("username" in options) != ("password" in options):
        raise UsageError("questdb.url: username and password go together")
    if "token" in options and "username" in options:
        raise UsageError("questdb.url: either a token or username and password")
    if options.get("tls_verify", "on") not in {"on", "unsafe_off"}:
        raise UsageError("questdb.url: tls_verify is on or unsafe_off")
    if "tls_roots" in options and not Path(options["tls_roots"]).is_file():
        raise UsageError(f"questdb.url: tls_roots: no file {options['tls_roots']}")


def _split(addr: str, default_port: int) -> tuple[str, int]:
    """Take `host`, `host:port` or `[v6]:port` apart."""
    host, separator, text = addr.rpartition(":")
    if not separator or addr.endswith("]"):
        host, text = addr, str(default_port)
    if not host or not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise UsageError(f"questdb.url: addr {addr!r}: expected host:port")
    return host.strip("[]"), int(text)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
