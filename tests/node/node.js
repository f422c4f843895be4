// One node of the original, driven by JSON lines on stdin; it says what happens as JSON lines on stdout.
//
// argv[2]: {"id", "port", "seeds": [{"id", "transport"}], "options": {...}, "refuse": [ids that it does not dial]}
// in:      {"do": "update", "key", "value"} | {"do": "state"} | {"do": "close"}; the end of stdin closes too
// out:     [event, ...]: listening | new peer, id | peer dead, id | peer live, id | contact, id | update, id, key, value
//          | error, text | state, {id: {key: value}}
"use strict";

const readline = require("readline");
const Gossipmonger = require("gossipmonger");

const config = JSON.parse(process.argv[2]);
const refuse = config.refuse || [];
const say = (...event) => process.stdout.write(JSON.stringify(event) + "\n");

const node = new Gossipmonger(
    { id: config.id, transport: { host: "127.0.0.1", port: config.port } },
    Object.assign({ seeds: config.seeds }, config.options)
);
const rpc = node.transport.rpc;
node.transport.rpc = function (remotePeer, payload) {
    if (refuse.indexOf(remotePeer.id) < 0) rpc.call(this, remotePeer, payload);
};
for (const name of ["new peer", "peer dead", "peer live"]) node.on(name, (peer) => say(name, peer.id));
for (const name of ["digest receive", "deltas receive"]) node.on(name, (peer) => say("contact", peer.id));
node.on("update", (id, key, value) => say("update", id, key, value));
node.on("error", (error) => say("error", String(error)));

function state() {
    const peers = {};
    for (const peer of [node.localPeer, ...node.storage.livePeers(), ...node.storage.deadPeers()]) {
        peers[peer.id] = {};
        for (const key of Object.keys(peer.data)) peers[peer.id][key] = peer.data[key][0];
    }
    return peers;
}

readline.createInterface({ input: process.stdin })
    .on("line", (line) => {
        const command = JSON.parse(line);
        if (command.do === "update") node.update(command.key, command.value);
        else if (command.do === "state") say("state", state());
        else process.exit();
    })
    .on("close", () => process.exit());

node.transport.listen(() => {
    node.gossip();
    say("listening");
});
