// Runs the agent of examples/agent as a client of the AG-UI protocol does, and checks the messages that the client has then.
import assert from "node:assert/strict";
import { HttpAgent } from "@ag-ui/client";

const address = process.argv[2];
const url = `${address}/workflows/agent/triggers/manual/invoke?format=ag-ui`;
const kinds = [];
const agent = new HttpAgent({ url, threadId: "thread-1" });
await agent.runAgent({}, {
  onEvent({ event }) {
    kinds.push(event.type);
  },
});
assert.equal(kinds[0], "RUN_STARTED");
assert.equal(kinds.at(-1), "RUN_FINISHED");
const texts = agent.messages.filter((message) => message.role === "assistant").map((message) => message.content);
assert.equal(texts.length, 2, JSON.stringify(agent.messages));
assert.match(texts[0], /^Order 7 has been shipped, order 9 is packed\./);
assert.match(texts[1], /Order 9 is only packed, so it can still be cancelled\.$/);
assert.ok(kinds.filter((kind) => kind === "TEXT_MESSAGE_CONTENT").length >= 2);
console.log(`ag-ui: ${kinds.length} events, ${texts.length} messages`);
