"""Runs a node with TLS: python node.py DIRECTORY ID PORT [HOST:PORT ...].

The directory has what `certificates.py` has written; the rest are seeds. When the node's certificate or the authority's is
written again, the node goes on with the new one, without a restart.
"""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Any

from gossipmonger import Gossipmonger


def contexts(directory: Path, id: str) -> dict[str, Any]:
    """Return the options of TLS, of the certificates that are there now."""
    ca, own = directory / "ca.pem", (directory / f"{id}.pem", directory / f"{id}.key")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    server.verify_mode = ssl.CERT_REQUIRED  # each side shows a certificate
    server.num_tickets = 0  # a link is kept, so there is nothing to resume, and each ticket takes a kilobyte
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*own)
    return {"tls_server": server, "tls_client": client}


def changed(directory: Path, id: str) -> list[int]:
    """Return when the certificates were written."""
    return [(directory / name).stat().st_mtime_ns for name in ("ca.pem", f"{id}.pem")]


def main(directory: Path, id: str, port: str, *seeds: str) -> None:
    address = {"host": "localhost", "port": int(port)}
    node = Gossipmonger({"id": id, "transport": address}, seeds=seeds, tls_check_id=True, **contexts(directory, id))
    node.on("new peer", lambda peer: print("met", peer.id, flush=True))
    node.on("update", lambda peer_id, key, value: print(peer_id, key, value, flush=True))
    node.on("error", lambda error: print("error:", error, flush=True))
    node.update("port", int(port))
    with node:
        seen = changed(directory, id)
        while not node.wait(1):
            if changed(directory, id) != seen:
                seen = changed(directory, id)
                node.transport.renew(**contexts(directory, id))
                print("renewed", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])
