// Pictures of the pages of `loom serve` in both themes, those that docs/ui.md shows or all to look at: the server has workflows and runs as a user might have.
//
// node ui-pictures.mjs LOOM DIRECTORY [png|webp]
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "./browser.mjs";

const [loom, directory, format = "webp"] = process.argv.slice(2);
const work = mkdtempSync(join(tmpdir(), "loom-pictures-"));
// Of the small ones, only those that the page shows are kept.
const shown = format === "webp" ? readFileSync("docs/ui.md", "utf8") : null;
mkdirSync(directory, { recursive: true });

// A service that fails as its path says: /ok, /down, /flaky (every third request succeeds).
let calls = 0;
const service = createServer((request, response) => {
  calls += 1;
  const isDown = request.url.startsWith("/down") || (request.url.startsWith("/flaky") && calls % 3 !== 0);
  response.writeHead(isDown ? 503 : 200, { "content-type": "application/json" });
  response.end(isDown ? '{"error": "try later"}' : '{"quote": 12.5, "currency": "EUR"}');
});
await new Promise((resolve) => service.listen(0, "127.0.0.1", resolve));
const peer = `http://127.0.0.1:${service.address().port}`;

const after = (name, statuses = ["Succeeded"]) => ({ runAfter: { [name]: statuses } });
const http = (path, more = {}) => ({ type: "Http", inputs: { method: "GET", uri: peer + path, ...more.inputs }, runAfter: {}, ...more.around });
const request = (schema) => ({ manual: { type: "Request", kind: "Http", inputs: { schema } } });
const order = {
  type: "object", required: ["id", "amount"],
  properties: { id: { type: "integer", description: "The number of the order" }, amount: { type: "number" }, express: { type: "boolean" }, tier: { enum: ["standard", "gold"] } },
};
const workflows = {
  "order-fulfilment": {
    triggers: request(order),
    actions: {
      Get_quote: http("/flaky/quote", { around: { retryPolicy: { maxAttempts: 5, initialDelay: 300, backoffMultiplier: 2 } } }),
      Check_lines: {
        type: "Foreach", foreach: "@range(1, 5)", runAfter: {}, runtimeConfiguration: { concurrency: { repetitions: 1 } },
        actions: { Reserve: { type: "Compose", inputs: "@div(20, sub(4, item()))", runAfter: {} } },
      },
      Charge: {
        type: "Scope", ...after("Get_quote"),
        actions: { Price: { type: "Compose", inputs: "@mul(triggerBody()?['amount'], body('Get_quote')['quote'])", runAfter: {} }, Charge_card: { ...http("/ok/charge"), ...after("Price") } },
      },
      Release: { type: "Compose", inputs: "the lines are released", ...after("Check_lines", ["Failed"]) },
      Confirm: { type: "Compose", inputs: { order: "@triggerBody()?['id']", total: "@outputs('Price')" }, runAfter: { Charge: ["Succeeded"], Release: ["Succeeded", "Skipped"] } },
    },
    outputs: { total: { type: "Float", value: "@outputs('Price')" } },
  },
  billing: {
    triggers: request({}),
    actions: { Bill: http("/down/billing", { inputs: { retryPolicy: { type: "none" } }, around: { circuitBreaker: { name: "billing", failureThreshold: 3, timeout: "PT10M" }, rateLimit: { name: "billing", requests: 50, per: "second" } } }) },
  },
  "refund-desk": {
    triggers: request({}),
    actions: {
      Desk: {
        type: "Agent", runAfter: {},
        inputs: { parameters: { modelId: "assistant", messages: [{ role: "System", content: "You work at the refund desk. A refund needs an approval." }, { role: "User", content: "Order 7 arrived broken. Please refund 12.50." }] } },
        tools: {
          look_up: { description: "Looks an order up", actions: { Order: { type: "Compose", inputs: { order: 7, amount: 12.5, delivered: "2026-11-27" } } } },
          refund: { description: "Refunds an amount", approval: { message: "Refund 12.50 for order 7?", to: "finance" }, actions: { Pay: { type: "Compose", inputs: "@concat('refunded ', string(agentParameters('amount')))" } } },
        },
      },
    },
  },
  nightly: {
    triggers: { Every_night: { type: "Recurrence", recurrence: { frequency: "Day", interval: 1, schedule: { hours: ["2"], minutes: [30] }, timeZone: "UTC" } } },
    actions: {
      Count: { type: "Memory", inputs: { operation: "increment", key: "workflow/runs" }, runAfter: {} },
      Report: { type: "Compose", inputs: "the report", ...after("Count") },
    },
  },
  "long-wait": {
    triggers: request({}),
    actions: { Cool_down: { type: "Wait", inputs: { interval: { count: 1, unit: "Day" } }, runAfter: {} }, Continue: { type: "Compose", inputs: 1, ...after("Cool_down") } },
  },
};
const models = { models: { assistant: { api: "scripted", replies: [
  { when: { last: "refund 12.50" }, text: "I look the order up first.", toolCalls: [{ name: "look_up", arguments: { order: 7 } }] },
  { when: { last: "delivered" }, text: "The order was delivered three days ago and is covered. I ask for the refund.", toolCalls: [{ name: "refund", arguments: { amount: 12.5 } }] },
  { when: { last: "refunded" }, text: "The 12.50 are on their way back to you." }] } } };
mkdirSync(join(work, "workflows"));
for (const [name, definition] of Object.entries(workflows)) writeFileSync(join(work, "workflows", `${name}.json`), JSON.stringify({ definition }));
writeFileSync(join(work, "connections.json"), JSON.stringify(models));

const token = "a-token-for-the-pictures";
const server = spawn(loom, ["serve", "--workflows", join(work, "workflows"), "--connections", join(work, "connections.json"), "--data", join(work, "data"), "--addr", "127.0.0.1:0", "--token", token], {
  stdio: ["ignore", "pipe", "pipe"], cwd: work, env: { ...process.env, LOOM_MASTER_KEY: "5c".repeat(32) },
});
let log = "";
server.stderr.setEncoding("utf8").on("data", (text) => { log += text; });
const address = await new Promise((resolve, reject) => {
  let out = "";
  server.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
    const found = /listening on (\S+)/.exec(out);
    if (found) resolve(found[1]);
  });
  server.once("exit", () => reject(new Error(`the server does not start: ${log}`)));
});
const headers = { authorization: `Bearer ${token}` };
const api = async (method, path, body) => {
  const response = await fetch(address + path, { method, headers: body ? { ...headers, "content-type": "application/json" } : headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.status === 204 ? null : response.json();
};
const start = async (workflow, body) => {
  const response = await fetch(`${address}/workflows/${workflow}/triggers/manual/invoke`, { method: "POST", headers: body ? { ...headers, "content-type": "application/json" } : headers, body: body && JSON.stringify(body) });
  const run = response.headers.get("x-ms-workflow-run-id");
  if (!run) throw new Error(`${workflow}: ${response.status} ${await response.text()}`);
  return run;
};
const settled = async (path, done) => {
  for (let tries = 0; tries < 200; tries += 1) {
    const found = await api("GET", path);
    if (done(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${path} does not settle: ${JSON.stringify(await api("GET", path)).slice(0, 2_000)}`);
};

const browser = await Browser.open();
try {
  const ended = (run) => settled(`/api/v1/runs/${run}`, (found) => found.endTime);
  const orders = [];
  for (let id = 7; id < 10; id += 1) orders.push(await start("order-fulfilment", { id, amount: 3, express: id === 8 }));
  for (let count = 0; count < 5; count += 1) await ended(await start("billing"));
  const asks = await start("refund-desk");
  await settled(`/api/v1/runs/${asks}/questions`, (found) => found.questions.length);
  const refunded = await start("refund-desk");
  await settled(`/api/v1/runs/${refunded}/questions`, (found) => found.questions.length);
  await api("POST", `/api/v1/runs/${refunded}/answers`, { approved: true, by: "Olga" });
  await ended(refunded);
  const waits = await start("long-wait");
  for (const run of orders) await ended(run);
  const changed = structuredClone(workflows["order-fulfilment"]);
  changed.actions.Release.inputs = "the lines are released, and the customer is told";
  await api("PUT", "/api/v1/workflows/order-fulfilment?bump=minor", { definition: changed });
  await api("POST", "/api/v1/workflows/nightly/triggers/Every_night/run");
  await api("PUT", "/api/v1/memory/global/limit", { value: 100 }).catch(() => null);
  for (const name of ["payment-key", "crm-token"]) await api("PUT", `/api/v1/secrets/${name}`, { value: "a secret of the pictures" });
  for (const [name, scopes] of [["ci", ["read", "deploy"]], ["dashboard", ["read"]], ["on-call", ["read", "run", "operate"]]]) await api("POST", "/api/v1/tokens", { name, scopes });

  const pages = {
    login: "/ui/login",
    runs: "/ui/runs",
    bulk: "/ui/runs/bulk/resubmit?status=Failed",
    run: `/ui/runs/${orders[0]}?action=Reserve`,
    "run-waiting": `/ui/runs/${waits}?action=Cool_down`,
    timeline: `/ui/runs/${orders[0]}?tab=timeline`,
    chat: `/ui/runs/${asks}?tab=chat`,
    "chat-ended": `/ui/runs/${refunded}?tab=chat`,
    events: `/ui/runs/${orders[0]}?tab=events`,
    data: `/ui/runs/${orders[0]}?tab=data`,
    definition: `/ui/runs/${orders[0]}?tab=definition`,
    workflows: "/ui/workflows",
    workflow: "/ui/workflows/order-fulfilment",
    recurrence: "/ui/workflows/nightly",
    resilience: "/ui/resilience",
    service: "/ui/resilience/billing",
    memory: "/ui/memory",
    secrets: "/ui/secrets",
    access: "/ui/access",
    status: "/ui/status",
    "not-found": "/ui/runs/none",
  };
  await browser.dress("light", 1280);
  browser.where = "login";
  browser.expected = /404/;
  await browser.goto(`${address}/ui/login`);
  const { login, ...others } = pages;
  const shoot = async (name, path, widths) => {
    for (const theme of ["light", "dark"]) {
      for (const width of widths) {
        const file = `${name}${width < 500 ? `-${width}` : ""}-${theme}.${format}`;
        if (shown && !shown.includes(`/${file})`)) continue;
        await browser.dress(theme, width, width < 500 ? 800 : 860);
        await browser.goto(address + path);
        writeFileSync(join(directory, file), await browser.picture(format, format === "png"));
      }
    }
  };
  const widths = format === "png" ? [1280, 320] : [1280];
  await shoot("login", login, widths);
  await browser.dress("light", 1280);
  await browser.goto(`${address}/ui/login`);
  await browser.click("input[name=token]");
  await browser.type(token);
  await browser.leads(() => browser.press("Enter"));
  for (const [name, path] of Object.entries(others)) await shoot(name, path, widths);
  if (browser.problems.length) throw new Error(browser.problems.join("\n"));
  console.log(`ui: ${Object.keys(pages).length} pages in both themes are in ${directory}`);
} catch (error) {
  console.error(error.message, log.slice(-2_000));
  process.exitCode = 1;
} finally {
  await browser.close();
  server.kill("SIGKILL");
  service.close();
  rmSync(work, { recursive: true, force: true });
}
