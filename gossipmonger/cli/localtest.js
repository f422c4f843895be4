// One node of the original for `gossipmonger localtest --node`. It prints events as JSON lines, and takes updates as such.
//
// argv[2]: {"id", "port", "seeds": [{"id", "transport"}], "options": {...}}
"use strict";

const readline = require("readline");
const Gossipmonger = require("gossipmonger");

const config = JSON.parse(process.argv[2]);
const say = (event, about) => process.stdout.write(JSON.stringify(Object.assign({ event: event }, about)) + "\n");
const node = new Gossipmonger(
    { id: config.id, transport: { host: "127.0.0.1", port: config.port } },
    Object.assign({ seeds: config.seeds }, config.options)
);

for (const name of ["new peer", "peer dead", "peer live"]) node.on(name, (peer) => say(name, { peer: peer.id }));
for (const name of ["digest send", "digest receive"])
    node.on(name, (peer, digest) => say(name, { peer: peer.id, about: digest.map((entry) => entry.id) }));
for (const name of ["deltas send", "deltas receive"])
    node.on(name, (peer, deltas) => say(name, { peer: peer.id, about: deltas.map((delta) => delta[0] + " " + delta[1]) }));
node.on("update", (peer, key, value) => say("update", { peer: peer, key: key, value: value }));
node.on("error", (error) => say("error", { error: error.name, text: error.message }));

readline.createInterface({ input: process.stdin })
    .on("line", (line) => node.update(...JSON.parse(line)))
    .on("close", () => process.exit());

node.transport.listen(() => {
    node.gossip();
    say("listening", { peer: config.id });
});
