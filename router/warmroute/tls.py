"""Certificates: TLS contexts made of files, and made anew when the files have changed.

New connections use the new context, those that are there go on with what they had. New files that are
no good are logged once, and the old context stays: an exchange of two files may be seen half-way, and no
mistake is to end a service that works.

Files are compared by content, not by date: they are renamed into place, and Kubernetes exchanges symbolic
links. TLS is 1.2 or newer, and speaks HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from warmroute.config import Settings, UsageError

log = logging.getLogger("warmroute")

# Whoever renews certificates waits minutes before the old ones end.
LOOK_EVERY_S: Final = 2.0

# Certificates of all authorities of the world are 200 KB.
_FILE_BYTES_MAX: Final = 4 << 20

_ALPN: Final = ["http/1.1"]


class Certificates:
    """State: the context for new connections, once it was asked for, and the files as last looked at."""

    def __init__(self, what: str, files: Sequence[Path], make: Callable[[], ssl.SSLContext]) -> None:
        self._what = what
        """The settings that name the files."""
        self._files = tuple(files)
        self._make = make
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[bytes, ...] = ()
        self._complaint = ""

    @property
    def context(self) -> ssl.SSLContext:
        """Writes, the first time. For a new connection. Raises UsageError the first time."""
        if self._context is None:
            self._seen = self._contents()
            self._context = self._made()
        return self._context

    @property
    def has_files(self) -> bool:
        """Reads. Whether there is anything to look at."""
        return bool(self._files)

    def look(self) -> bool:
        """Writes. Reads the files again; whether there is a new context. Reads disks, so it belongs into a
        thread. Raises nothing: what is wrong is logged."""
        if self._context is None or not self._files:
            return False
        try:
            contents = self._contents()
            if contents == self._seen:
                self._complaint = ""
                return False
            context = self._made()
        except UsageError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.warning("certificates not renewed, the old ones stay", extra={"why": str(error)})
            return False
        self._context, self._seen, self._complaint = context, contents, ""
        log.info("certificates renewed", extra={"files": self._what})
        return True

    def _contents(self) -> tuple[bytes, ...]:
        """Raises UsageError."""
        contents = []
        for path in self._files:
            try:
                with path.open("rb") as file:
                    contents.append(file.read(_FILE_BYTES_MAX))
            except OSError as error:
                raise UsageError(f"{self._what}: {path}: {error.strerror}") from None
        return tuple(contents)

    def _made(self) -> ssl.SSLContext:
        """Raises UsageError."""
        try:
            return self._make()
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise UsageError(f"{self._what}: {_in_words(error)}") from None


async def look_again(*certificates: Certificates | None) -> None:
    """Writes. All of them look at their files now, in a thread."""
    for one in certificates:
        if one is not None:
            await asyncio.to_thread(one.look)


async def watch_files(*certificates: Certificates | None) -> None:
    """Writes. Looks at the files until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await look_again(*certificates)


def server_certificates(settings: Settings) -> Certificates | None:
    """What the port shows to clients; None: it speaks plain HTTP. Raises UsageError where the settings or the
    files are no good."""
    cert, key, ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is None:
        if key is not None or ca is not None:
            raise UsageError(f"{'tls_key' if key is not None else 'tls_client_ca'} needs tls_cert")
        return None

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(_ALPN)
        context.load_cert_chain(cert, key, _no_password)
        if ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ca)
        return context

    files = [path for path in (cert, key, ca) if path is not None]
    certificates = Certificates(_named(tls_cert=cert, tls_key=key, tls_client_ca=ca), files, make)
    certificates.context  # noqa: B018 -- what is wrong with it is told at the start
    return certificates


def upstream_certificates(settings: Settings) -> Certificates:
    """Whom the router believes to be a worker, and what it shows to them. Made when the first worker with
    https:// needs it: the system's authorities take a while to read. Raises UsageError where the settings
    or the files that they name are no good."""
    ca, cert, key = settings.upstream_ca, settings.upstream_client_cert, settings.upstream_client_key
    if key is not None and cert is None:
        raise UsageError("upstream_client_key needs upstream_client_cert")

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An answer that ends with its connection is whole only where the worker said so.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        context.set_alpn_protocols(_ALPN)
        for path in ca:
            context.load_verify_locations(path)
        if not ca:
            context.load_default_certs()
        if cert is not None:
            context.load_cert_chain(cert, key, _no_password)
        return context

    names = _named(upstream_ca=ca or None, upstream_client_cert=cert, upstream_client_key=key)
    files = [*ca, *(path for path in (cert, key) if path is not None)]
    certificates = Certificates(names, files, make)
    if files:
        certificates.context  # noqa: B018 -- as above
    return certificates


def why_not_connected(error: OSError) -> str:
    """What a failed connection says, for people: the system's words, or what is wrong with a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS on this port"
        return f"no TLS with it: {(error.reason or str(error)).lower().replace('_', ' ')}"
    return error.strerror or str(error) or type(error).__name__


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _named(**settings: object) -> str:
    return ", ".join(name for name, value in settings.items() if value is not None)


def _in_words(error: Exception) -> str:
    """OpenSSL says where it stood rather than what is wrong."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if isinstance(error, ssl.SSLError):
        return f"not certificates and a key in PEM ({(reason or 'unreadable').lower().replace('_', ' ')})"
    return " ".join(str(error).split())
