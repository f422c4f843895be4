// The other end of `Program`: takes lines from stdin, answers on stdout.
"use strict";

const readline = require("readline");

exports.config = JSON.parse(process.argv[2]);

const say = (answer) => process.stdout.write(JSON.stringify(answer === undefined ? null : answer) + "\n");

// Ends the program: what it measures has gone wrong.
exports.fatal = function (error) {
    console.error(String(error));
    process.exit(1);
};

// Says that the program is ready; then calls what each line names under "do" with the rest, and answers what comes of it.
exports.serve = function (commands) {
    readline.createInterface({ input: process.stdin })
        .on("line", (line) => {
            const request = JSON.parse(line);
            Promise.resolve(commands[request.do](request)).then(say);
        })
        .on("close", () => process.exit());
    say("ready");
};
