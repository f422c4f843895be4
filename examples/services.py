"""Web services that find each other, without a server for that.

    python services.py serve a 9742                     # a service, at any free port
    python services.py serve b 9743 127.0.0.1:9742      # another one
    python services.py ask client 0 127.0.0.1:9742      # asks one that is live and healthy

GET /sick makes a service sick, and GET /well makes it well.
"""

import random
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gossipmonger import Gossipmonger
from gossipmonger.recipes import Registry


class Service(BaseHTTPRequestHandler):
    """Says who it is."""

    healthy = True
    name = ""

    def do_GET(self):
        if self.path in ("/sick", "/well"):
            Service.healthy = self.path == "/well"
        self.send_response(200 if Service.healthy or self.path == "/sick" else 503)
        self.end_headers()
        self.wfile.write(f"I am {self.name}\n".encode())

    def log_message(self, *arguments):
        pass


def get(address, path="/"):
    """Return what an address answers; raise OSError if it does not, or says that it is sick."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=2) as answer:
        return answer.read().decode().strip()


def serve(registry, id):
    """Serve, and register that, until Ctrl-C."""
    Service.name = id
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        with registry.register("who", address, ttl=3, check=lambda: get(address)):
            print("serves at", address, flush=True)
            registry.node.wait()


def ask(registry):
    """Return what one service answers. One that has gone just now is passed over; None if there is no other."""
    found = registry.lookup("who")
    for instance in random.sample(found, len(found)):
        try:
            return get(instance.address)
        except OSError as error:
            print(f"{instance.peer_id}: {error}", file=sys.stderr)
    return None


def main(what, id, port, *seeds):
    """Do what the command line says."""
    node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": int(port)}}, seeds=seeds)
    with node, Registry(node) as registry:
        if what == "serve":
            serve(registry, id)
        else:
            print(node.wait_for(lambda: ask(registry), 10))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
