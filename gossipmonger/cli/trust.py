"""Trust: the keys and certificates that a configuration names, as options of a node, and read again while it runs."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gossipmonger import Gossipmonger, Keyring
from gossipmonger.cli.outcome import SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output
from gossipmonger.cli.settings import Settings
from gossipmonger.errors import shown, words

__all__ = ["check_own_id", "client_context", "keygen", "keyring_of", "renew", "trust_of"]

#: The settings of TLS that have to come together.
_TLS = ("tls_certificate", "tls_key", "tls_ca")


def trust_of(settings: Settings, note: Callable[[str], object] = lambda text: None) -> dict[str, Any]:
    """Return the options of a node that say whom it trusts.

    Args:
        settings: The configuration.
        note: Called with a line where others can read a secret.

    Raises:
        CommandError: A key or a certificate cannot be read, or is none.
    """
    keyring = keyring_of(settings)
    options: dict[str, Any] = {} if keyring is None else {"keyring": keyring}
    if settings.tls_ca or settings.tls_certificate or settings.tls_key or settings.tls_check_id:
        options |= {"tls_server": _context(settings, ssl.Purpose.CLIENT_AUTH), "tls_client": client_context(settings)}
        options["tls_check_id"] = settings.tls_check_id
    secrets = [settings.keys_file, settings.tls_key, settings.path if settings.keys else None]
    for path in secrets:
        if path is not None and os.name == "posix" and os.stat(path).st_mode & 0o077:
            note(f"other users can read the secrets in {shown(path)}: chmod 600")
    return options


def keygen(arguments: argparse.Namespace, output: Output, _: Any, environ: Mapping[str, str]) -> int:
    """Print a new random key."""
    key = Keyring.generate()
    if output.as_json:
        output.record({"key": key})
    else:
        output.line(key)
    return SUCCESS


def keyring_of(settings: Settings) -> Keyring | None:
    """Return the keys that a configuration names; None if there are none.

    Raises:
        CommandError: They cannot be read, or are none.
    """
    try:
        if settings.keys_file is not None:
            return Keyring.from_file(settings.keys_file)
        return Keyring(settings.keys) if settings.keys else None
    except OSError as error:
        raise CommandError(f"can't read the keys in {shown(settings.keys_file)}: {error.strerror}", USAGE) from None
    except ValueError as error:
        if isinstance(error, UnicodeError):
            error = ValueError("they must be text")
        place = "keys" if settings.keys_file is None else f"the keys in {shown(settings.keys_file)}"
        raise CommandError(f"{place}: {words(error).removeprefix(f'{settings.keys_file}, ')}", USAGE) from None
    except ImportError as error:
        raise CommandError(words(error), USAGE) from None


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how connections that are dialled are encrypted; None if they are not.

    Raises:
        CommandError: A certificate cannot be read, or is none.
    """
    given = [name for name in _TLS if getattr(settings, name)]
    return _context(settings, ssl.Purpose.SERVER_AUTH) if given else None


def _context(settings: Settings, purpose: ssl.Purpose) -> ssl.SSLContext:
    missing = [name for name in _TLS if not getattr(settings, name)]
    if missing:
        raise CommandError(f"TLS needs {', '.join(_TLS)}; there is no {', '.join(missing)}", USAGE)
    try:
        context = ssl.create_default_context(purpose, cafile=settings.tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED  # each side shows a certificate
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if purpose is ssl.Purpose.CLIENT_AUTH:
            context.num_tickets = 0  # a link is kept, so there is nothing to resume, and each ticket takes a kilobyte
        assert settings.tls_certificate is not None
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, _no_password)
    except OSError as error:  # SSLError is one too
        files = ", ".join(str(getattr(settings, name)) for name in _TLS)
        reason = error.strerror or words(error)
        if isinstance(error, ssl.SSLError):
            reason += f"; each must be PEM, and {_TLS[1]} the key of {_TLS[0]}"
        raise CommandError(f"can't read the certificates in {files}: {reason}", USAGE) from None
    return context


def check_own_id(settings: Settings, server: ssl.SSLContext | None) -> None:
    """Check that a node's own certificate names its id, where `tls_check_id` demands it.

    Raises:
        CommandError: The certificate does not name the id.
    """
    if server is None or not settings.tls_check_id:
        return
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # so that the certificate can serve as its own authority
    client.load_verify_locations(settings.tls_certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks, shows = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for end in (asks, shows, asks):
        with suppress(ssl.SSLError):  # it waits for more, or peers would refuse it anyway, as when expired
            end.do_handshake()
    if asks.version() is None:
        return
    found: Mapping[str, Any] = asks.getpeercert() or {}
    names = [name for kind, name in found.get("subjectAltName", ()) if kind in ("DNS", "URI")]
    if settings.id not in names:
        named = f"{shown(settings.tls_certificate)} names {', '.join(map(shown, names[:5])) or 'nobody'}"
        raise CommandError(f"tls_check_id: {named}, and not {shown(settings.id)}: give the --id that it names", USAGE)


def _no_password() -> str:
    raise OSError("the key is encrypted, and there is nobody to type its password")


def renew(node: Gossipmonger, settings: Settings) -> str:
    """Let a node take the keys and certificates that a configuration names now; return what has changed, in words.

    Raises:
        CommandError: They cannot be read, or are none. Nothing has changed then.
    """
    wanted, said = trust_of(settings), []
    check_own_id(settings, wanted.get("tls_server"))
    mine = node.options.keyring
    keyring = wanted.get("keyring")
    if (mine is None) != (keyring is None):
        raise CommandError("a cluster gets its first keys, and loses its last, only by a restart of the agent", USAGE)
    if mine is not None and keyring is not None:
        mine.replace([key.secret for key in keyring.keys(keyring.first)])
        said.append(f"{len(mine.ids)} keys, {mine.ids[0]} seals")
    if "tls_server" in wanted:
        try:
            node.transport.renew(wanted["tls_server"], wanted["tls_client"])
        except RuntimeError:
            raise CommandError("a node begins to use TLS only by a restart of the agent", USAGE) from None
        said.append("certificates")
    return "; ".join(said)
