"""Lessons: what `--help` says of each command beside its arguments, with examples to copy."""

from __future__ import annotations

from collections.abc import Mapping

from gossipmonger.cli.settings import OPTIONS

__all__ = ["LESSONS"]

#: Command -> what it does, as paragraphs, and examples.
LESSONS: Mapping[str, tuple[str, str]] = {
    "agent": (
        "Run a node until SIGTERM, SIGINT (Ctrl-C) or `gossipmonger leave` ends it. Flags win over GOSSIPMONGER_* variables "
        "(GOSSIPMONGER_LISTEN, GOSSIPMONGER_SEEDS=a:9742,b:9742, ...), these over the TOML file, and that over the defaults."
        "\n\nOptions, for -o NAME=VALUE or [options] in the file; durations are written 250ms, 1s or 5m: "
        + ", ".join(OPTIONS)
        + ".",
        """
        gossipmonger agent --id a --listen 127.0.0.1:9742                    a first node, for this host only
        gossipmonger agent --id b --listen 0.0.0.0:9742 --seed a.example     join the node at a.example
        gossipmonger agent --config /etc/gossipmonger.toml --check-config
        """,
    ),
    "members": (
        "List the nodes that are known. HEARD is how long ago a sign of life came. PHI says how suspicious the silence since "
        "is: above 8, a node is dead. Exits with 1 if there is none.",
        """
        gossipmonger members
        gossipmonger members --state dead
        gossipmonger members --where role=web --json
        gossipmonger members --seed a.example:9742
        """,
    ),
    "get": (
        "Print the value of a key: text as it is, anything else as JSON. Exits with 1 if it is absent.",
        """
        gossipmonger get role
        gossipmonger get role --peer b
        gossipmonger get role --peer b --seed a.example:9742
        """,
    ),
    "set": (
        "Set a key of the agent; gossip carries it to all nodes. VALUE is JSON, or else text: 5 is a number, five is a text, "
        "and so is 5 with --text.",
        """
        gossipmonger set role web
        gossipmonger set load 0.5 --ttl 30s
        gossipmonger set version 1.10 --text
        gossipmonger set shards '[1, 2]'
        """,
    ),
    "delete": ("Delete a key of the agent, at all nodes. Exits with 1 if it was not there.", "gossipmonger delete role"),
    "keys": (
        "List the keys of all live nodes and who has them, or with --peer those of one node and their values.",
        """
        gossipmonger keys
        gossipmonger keys load/
        gossipmonger keys --peer b
        """,
    ),
    "values": (
        "Print the value of a key at every live node that has it. Exits with 1 if none has.",
        """
        gossipmonger values role
        gossipmonger values load --json | jq .value
        """,
    ),
    "watch": (
        'Follow the keys of live nodes: first what there is, then each change. A key is "gone" when its node dies or leaves.',
        """
        gossipmonger watch
        gossipmonger watch load/ --no-replay
        gossipmonger watch role --json --count 1
        """,
    ),
    "wait": (
        "Wait until a key is there, with a value if one is given, or until so many nodes are live. Exits with 3 when the time "
        "is over.",
        """
        gossipmonger wait --peers 3 --timeout 30s
        gossipmonger wait ready --value true --peer db-1 && ./migrate
        """,
    ),
    "events": (
        "Follow what happens: nodes come, die, return and leave, keys change, errors.",
        """
        gossipmonger events
        gossipmonger events --event "peer dead" --event "peer live" --json
        """,
    ),
    "ping": (
        "Dial an address and say, step by step, what is there: whether it is reached, whether it is a gossipmonger node, of "
        "this cluster, with this key, and from where it sees you come.",
        """
        gossipmonger ping a.example:9742
        gossipmonger ping a.example --cluster prod --keys-file /etc/gossipmonger.keys
        """,
    ),
    "info": ("Describe the agent and what it runs on. Bug reports should have this.", "gossipmonger info"),
    "leave": ("Let the agent hand on what is new, tell the others that it leaves, and end.", "gossipmonger leave"),
    "forget": (
        "Drop a node that is dead or has left: here, and at all other nodes. By itself that takes a day.",
        "gossipmonger forget web-7",
    ),
    "keygen": (
        "Make a key that seals messages, and print it. Whoever has it can read and write everything.",
        "(umask 077; gossipmonger keygen > gossipmonger.keys)",
    ),
    "keyring": (
        "List the keys of the agent by their ids, or change them until it ends. To rotate: add the new key everywhere, promote "
        "it everywhere, and remove the old one everywhere. Change the files too, or a restart brings the old keys back.",
        """
        gossipmonger keyring
        gossipmonger keygen | gossipmonger keyring add -
        gossipmonger keyring promote 3f2a91bc
        gossipmonger keyring remove 91bc3f2a
        """,
    ),
    "localtest": (
        "Start five nodes on this machine, let one of them change a key every two seconds, and print messages and events as "
        "they happen. It is the visual test of the Node.js package.",
        """
        gossipmonger localtest
        gossipmonger localtest --for 10s --quiet
        gossipmonger localtest --node --node-modules ./node_modules
        """,
    ),
    "completion": (
        "Print a script that lets a shell complete commands, options, nodes and keys. It needs the extra `cli`: "
        "pip install 'gossipmonger[cli]'.",
        """
        eval "$(gossipmonger completion bash)"          in ~/.bashrc
        eval "$(gossipmonger completion zsh)"           in ~/.zshrc, after compinit
        gossipmonger completion fish | source           in ~/.config/fish/config.fish
        """,
    ),
}
