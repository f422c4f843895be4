// One node of the original, listening, that does not gossip. It counts the messages that it has handled.
"use strict";

const Gossipmonger = require("gossipmonger");
const { config, serve } = require("./lines.js");

const node = new Gossipmonger({ id: "node", transport: { host: "127.0.0.1", port: config.port } });
let messages = 0;
for (const name of ["digest", "deltas"]) node.transport.on(name, () => messages++);
node.on("error", (error) => console.error(String(error)));

node.transport.listen(() => serve({
    // Messages handled, milliseconds of CPU.
    state: () => {
        const cpu = process.cpuUsage();
        return { messages, cpu: (cpu.user + cpu.system) / 1000 };
    },
}));
