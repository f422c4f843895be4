// One node of the original that learns many keys of many peers, by messages, as if they came from its transport.
"use strict";

const { EventEmitter } = require("events");
const Gossipmonger = require("gossipmonger");
const { fatal, serve } = require("./lines.js");

const SENDER = { id: "sender", transport: { host: "10.0.0.1", port: 9742 } };
const DELTAS = 500; // in a message

class Transport extends EventEmitter {
    digest() {}
    deltas() {}
}

const node = new Gossipmonger({ id: "node", transport: { host: "10.1.0.0", port: 9742 } }, { transport: new Transport() });
node.on("error", fatal);

function rss() {
    global.gc();
    return process.memoryUsage().rss;
}

serve({
    // Bytes of memory before and after.
    fill({ peers, keys }) {
        const ids = Array.from({ length: peers }, (_, n) => `peer-${n}`);
        const digest = ids.map((id) => ({ id, maxVersionSeen: keys, transport: { host: "10.0.0.2", port: 9742 } }));
        node.transport.emit("digest", SENDER, digest);
        const before = rss();
        for (let n = 0; n < peers; n++) {
            for (let first = 0; first < keys; first += DELTAS) {
                const deltas = [];
                for (let key = first; key < Math.min(keys, first + DELTAS); key++) {
                    deltas.push([ids[n], `key-${key}`, `value-${n}-${key}`, key + 1]);
                }
                const message = JSON.parse(JSON.stringify({ deltas, sender: SENDER }));
                node.transport.emit("deltas", message.sender, message.deltas);
            }
        }
        const known = ids.reduce((sum, id) => sum + Object.keys(node.storage.get(id).data).length, 0);
        return { before, after: rss(), known };
    },
});
