// One node of the original whose transport only encodes. It makes digests and handles them, and says how long that takes.
"use strict";

const { EventEmitter } = require("events");
const Gossipmonger = require("gossipmonger");
const Peer = require("gossipmonger-peer");
const { fatal, serve } = require("./lines.js");

const SENDER = { id: "sender", transport: { host: "10.0.0.1", port: 9742 } };
const CASES = {
  "in sync": () => 0,
  "one key": (n) => n === 1,
  "every peer": () => 1,
  "joiner": () => Infinity,
  "first joiner": () => Infinity,
};

let node, sent, messages;

class Transport extends EventEmitter {
    rpc(remote, payload) { sent = JSON.stringify(payload) + "\r\n"; }
    digest(remote, { id, transport }, digest) { this.rpc(remote, { digest, sender: { id, transport } }); }
    deltas(remote, { id, transport }, deltas) { this.rpc(remote, { deltas, sender: { id, transport } }); }
}

const cpu = () => {
    const { user, system } = process.cpuUsage();
    return user + system;
};
const transportOf = (n) => ({ host: `10.0.${n >> 8}.${n & 255}`, port: 9742 });

const commands = {
    build({ peers, keys }) {
        node = null;
        node = new Gossipmonger({ id: "node", transport: { host: "10.1.0.0", port: 9742 } }, { transport: new Transport() });
        node.on("error", fatal);
        for (let n = 0; n < peers; n++) {
            const data = {};
            for (let key = 0; key < keys; key++) data[`key-${key}`] = [`value-${n}-${key}`, key + 1];
            node.storage.put(`peer-${n}`, new Peer(`peer-${n}`, { data, maxVersionSeen: keys, transport: transportOf(n) }));
        }
        node.storage.put(SENDER.id, new Peer(SENDER.id, { transport: SENDER.transport }));
        messages = {};
        for (const name in CASES) {
            const digest = [];
            for (let n = 0; n < peers; n++) {
                const version = Math.max(0, keys - CASES[name](n));
                digest.push({ id: `peer-${n}`, maxVersionSeen: version, transport: transportOf(n) });
            }
            digest.push({ id: SENDER.id, maxVersionSeen: 0, transport: SENDER.transport });
            messages[name] = JSON.stringify({ digest, sender: SENDER }) + "\r\n";
        }
        return { bytes: messages["in sync"].length };
    },

    // Microseconds of CPU to make a digest of all peers, each of `count` times.
    make({ count }) {
        const { localPeer, storage, transport } = node;
        const begun = cpu();
        for (let n = 0; n < count; n++) transport.digest(SENDER, localPeer, node.digest(storage.livePeers()));
        return { us: (cpu() - begun) / count, sent: sent.length };
    },

    // Microseconds of CPU to handle one, from its bytes to those of the answer, each of `count` times.
    handle({ name, count }) {
        const data = Buffer.from(messages[name]);
        sent = "";
        const begun = cpu();
        for (let n = 0; n < count; n++) {
            const message = JSON.parse(data.toString("utf8"));
            node.transport.emit("digest", message.sender, message.digest);
        }
        return { us: (cpu() - begun) / count, sent: sent.length };
    },
};
serve(commands);
