"""The command line: `gossipmonger agent` runs a node, and the other commands look into one.

Built on the package's public names only. `main` is where it begins. Each command is one module's work: `agent` runs a node from
a configuration (`settings`, `sources`), `control` answers commands on its socket, and `client` asks it; `observer` is an agent
of one's own for a moment, `answers` is what either of them can be asked, and `commands` prints what came.
"""

from gossipmonger.cli.main import main

__all__ = ["main"]
