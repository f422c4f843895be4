// A cluster of the original in one process, over TCP on loopback.
"use strict";

const Gossipmonger = require("gossipmonger");
const { config, serve } = require("./lines.js");

let rounds = 0;
const nodes = config.ports.map((port, n) => {
    const node = new Gossipmonger(
        { id: `node-${n}`, transport: { host: "127.0.0.1", port } },
        Object.assign({ seeds: [{ id: "node-0", transport: { host: "127.0.0.1", port: config.ports[0] } }] }, config.options)
    );
    const gossip = node.gossip;
    node.gossip = function () {
        rounds++;
        gossip.call(this);
    };
    node.on("error", (error) => console.error(String(error)));
    return node;
});

// Calls `condition` until it is true; resolves to the seconds since `begun`.
function until(condition, begun = process.hrtime.bigint()) {
    return new Promise((resolve) => {
        const timer = setInterval(() => {
            if (!condition()) return;
            clearInterval(timer);
            resolve(Number(process.hrtime.bigint() - begun) / 1e9);
        }, 10);
    });
}

const commands = {
    // Seconds until each node knows all others.
    known: () => until(() => nodes.every((node) =>
        node.storage.livePeers().concat(node.storage.deadPeers()).filter((peer) => peer !== node.localPeer).length
        >= nodes.length - 1)),

    // Seconds until all have the keys that are set at node 0 now.
    spread({ keys }) {
        const [first, ...others] = nodes;
        const begun = process.hrtime.bigint();
        for (let key = 0; key < keys; key++) first.update(`key-${key}`, `value-${key}`);
        const version = first.localPeer.maxVersionSeen;
        return until(() => others.every((node) => node.storage.get("node-0").maxVersionSeen === version), begun);
    },

    // Milliseconds of CPU, rounds of all nodes.
    state() {
        const cpu = process.cpuUsage();
        return { cpu: (cpu.user + cpu.system) / 1000, rounds };
    },
};

let listening = 0;
for (const node of nodes) {
    node.transport.listen(() => {
        if (++listening < nodes.length) return;
        for (const each of nodes) each.gossip();
        serve(commands);
    });
}
