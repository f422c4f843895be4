// A node of the Node original. See benchmarks/peers/__init__.py for what it is told and what it says.
"use strict";

const fs = require("fs");
const readline = require("readline");
const Gossipmonger = require("gossipmonger");

const config = JSON.parse(process.argv[2]);
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const say = (event, more, at) => fs.writeSync(1, JSON.stringify(Object.assign({ at: at || now(), event }, more)) + "\n");
const address = ({ host, port }) => ({ host, port });

const seeds = config.seeds.map((seed) => ({ id: seed.id, transport: address(seed) }));
const options = Object.assign({ seeds }, config.options);
const node = new Gossipmonger({ id: config.id, transport: address(config) }, options);
const seen = {};
for (const name of ["new peer", "peer live"]) node.on(name, (peer) => say("peer", { id: peer.id }));
node.on("peer dead", (peer) => say("dead", { id: peer.id }));
node.on("error", () => {}); // those that are not up yet, and those that were killed
node.on("update", (id, key, value) => {
    const [name, count] = key.split("/");
    if (count === undefined) return say("update", { id, key, value });
    const many = id + "/" + name;
    seen[many] = (seen[many] || 0) + 1;
    if (seen[many] === Number(count)) say("has", { id, name });
});

const commands = {
    set(command) {
        const at = now();
        node.update(command.key, command.value);
        say("set", { key: command.key }, at);
    },
    fill(command) {
        const at = now();
        for (let i = 0; i < command.count; i++) node.update(`${command.name}/${command.count}/${i}`, "v");
        say("filled", { name: command.name }, at);
    },
    state() {
        const keys = {};
        for (const peer of [node.localPeer, ...node.storage.livePeers()]) keys[peer.id] = Object.keys(peer.data).length;
        say("state", { keys });
    },
    quit() {
        process.exit();
    },
};

readline.createInterface({ input: process.stdin })
    .on("line", (line) => {
        const command = JSON.parse(line);
        commands[command.do](command);
    })
    .on("close", () => process.exit());

const began = now();
node.transport.listen(() => {
    node.gossip();
    say("ready", { pid: process.pid }, began);
});
