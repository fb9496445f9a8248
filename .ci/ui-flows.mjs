// What people do on the pages of `loom serve`, in Chromium: with the mouse, with the keyboard alone, and across a restart.
//
// node ui-flows.mjs LOOM
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Browser } from "./browser.mjs";

const loom = process.argv[2];
const work = mkdtempSync(join(tmpdir(), "loom-flows-"));
const TOKEN = "a token for these tests alone";
const EVIL = "<img src=x onerror=alert(1)>";

const definition = (actions) => JSON.stringify({ definition: { triggers: { manual: { type: "Request" } }, actions } });
const after = (name) => ({ runAfter: { [name]: ["Succeeded"] } });
const wait = (count) => ({ type: "Wait", inputs: { interval: { count, unit: "Second" } }, runAfter: {} });
const workflows = {
  // Long enough to be watched, and to live through a restart.
  slow: definition({ Rest: wait(3), Done: { type: "Compose", inputs: "done", ...after("Rest") } }),
  resumed: definition({ Rest: wait(8), Done: { type: "Compose", inputs: "done", ...after("Rest") } }),
  loop: definition({
    Each: {
      type: "Foreach", foreach: "@range(1, 60)", runAfter: {}, runtimeConfiguration: { concurrency: { repetitions: 1 } },
      actions: { Check: { type: "Compose", inputs: "@div(1, sub(37, item()))", runAfter: {} } },
    },
  }),
  evil: definition({
    [EVIL]: { type: "Compose", inputs: `</script><script>alert(1)</script>${EVIL}`, runAfter: {} },
    "javascript:alert(1)": { type: "Terminate", inputs: { runStatus: "Failed", runError: { code: EVIL, message: `"'><svg onload=alert(1)>` } }, ...after(EVIL) },
  }),
  calls: definition({
    Call: {
      type: "Http", runAfter: {}, inputs: { method: "GET", uri: "http://127.0.0.1:1/", retryPolicy: { type: "none" } },
      circuitBreaker: { name: "billing", failureThreshold: 2, timeout: "PT10M" },
    },
  }),
  refunds: definition({
    Ask: {
      type: "Agent", runAfter: {}, inputs: { parameters: { modelId: "m", messages: [{ role: "User", content: "Please refund 7" }] } },
      tools: { refund: { description: "refunds", approval: { message: "Refund?" }, actions: { Pay: { type: "Compose", inputs: "@concat('refunded ', string(agentParameters('amount')))" } } } },
    },
  }),
};
const models = {
  models: { m: { api: "scripted", replies: [
    { when: { last: "refund 7" }, text: "I refund.", toolCalls: [{ name: "refund", arguments: { amount: 7 } }] },
    { when: { last: "refunded" }, text: "It is refunded." }] } },
};
mkdirSync(join(work, "workflows"));
for (const [name, text] of Object.entries(workflows)) writeFileSync(join(work, "workflows", `${name}.json`), text);
writeFileSync(join(work, "connections.json"), JSON.stringify(models));

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

class Server {
  static async start(port, ...more) {
    const server = new Server();
    server.port = port;
    server.address = `http://127.0.0.1:${port}`;
    server.process = spawn(loom, [
      "serve", "--workflows", join(work, "workflows"), "--connections", join(work, "connections.json"), "--addr", `127.0.0.1:${port}`, ...more,
    ], { stdio: ["ignore", "ignore", "pipe"], cwd: work });
    let log = "";
    server.process.stderr.setEncoding("utf8").on("data", (text) => { log += text; });
    for (let tries = 0; ; tries += 1) {
      const ready = await fetch(`${server.address}/readyz`).then((response) => response.ok, () => false);
      if (ready) return server;
      if (tries > 300 || server.process.exitCode !== null) throw new Error(`the server does not start: ${log}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async end(signal) {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill(signal);
    await ended;
  }

  async run(workflow) {
    const response = await fetch(`${this.address}/workflows/${workflow}/triggers/manual/invoke`, { method: "POST" });
    return response.headers.get("x-ms-workflow-run-id");
  }
}

const check = (condition, what) => { if (!condition) throw new Error(`${browser.where}: ${what}`); };
const badge = (text) => `[...document.querySelectorAll("#run-summary .badge")].some((badge) => badge.textContent === ${JSON.stringify(text)})`;
const textHas = (text) => `document.body.innerText.includes(${JSON.stringify(text)})`;

const browser = await Browser.open();
let server;
let guarded;
const flows = {
  async "a live run turns green while it is watched"() {
    const run = await server.run("slow");
    await browser.goto(`${server.address}/ui/runs/${run}`);
    await browser.evaluate("window.sameDocument = true");
    await browser.until(badge("Running"), "a run in progress");
    await browser.until(badge("Succeeded"), "the end of the run");
    await browser.until(`document.querySelectorAll('#graph [data-state="Succeeded"]').length >= 2`, "green nodes");
    check(await browser.evaluate("window.sameDocument === true"), "the page was loaded again");
  },
  async "a failure in iteration 37 is found with two clicks"() {
    const run = await server.run("loop");
    await browser.goto(`${server.address}/ui/runs?workflow=loop`);
    await browser.until(textHas("Failed"), "a failed run");
    await browser.leads(() => browser.click(`#runs a[href="/ui/runs/${run}"]`));
    await browser.leads(() => browser.click("#details a.button"));
    await browser.until(textHas("Execution 37 of 60"), "the execution that failed");
    check(await browser.evaluate(textHas("zero")), "the error is not shown");
  },
  async "a page resumes after a restart of the server"() {
    const run = await server.run("resumed");
    await browser.goto(`${server.address}/ui/runs/${run}`);
    await browser.evaluate("window.sameDocument = true");
    await browser.until(badge("Running"), "a run in progress");
    browser.expected = /ERR_|Failed to load/;
    await server.end("SIGKILL");
    await browser.until(`document.documentElement.classList.contains("stale")`, "a sign that the server is away");
    server = await Server.start(server.port, "--data", join(work, "data"));
    await browser.until(badge("Succeeded"), "the end of the run, after the restart");
    browser.expected = null;
    check(await browser.evaluate("window.sameDocument === true"), "the page was loaded again");
    check(!await browser.evaluate(`document.documentElement.classList.contains("stale")`), "the page still looks stale");
  },
  async "a run is resubmitted from an action"() {
    const run = await server.run("slow");
    await browser.goto(`${server.address}/ui/runs/${run}?action=Done`);
    await browser.until(badge("Succeeded"), "the end of the run");
    await browser.click("#details .confirm summary");
    await browser.leads(() => browser.click("#details .confirm button.primary"));
    await browser.until(textHas("A new run was started"), "the new run");
    await browser.until(badge("Succeeded"), "the end of the new run");
    check(await browser.evaluate(`location.pathname !== "/ui/runs/${run}" && ${textHas(run)}`), "it is not another run that names the first");
  },
  async "a tool of an agent is approved"() {
    const run = await server.run("refunds");
    await browser.goto(`${server.address}/ui/runs/${run}?tab=chat`);
    await browser.until(textHas("Approval needed"), "a question");
    await browser.leads(() => browser.click(`.question button[value="true"]`));
    await browser.until(textHas("It is refunded."), "what the agent says after the approval");
    check(!await browser.evaluate(textHas("Approval needed")), "the question is still there");
  },
  async "an open circuit is closed after a question, and its history says by whom"() {
    for (let count = 0; count < 3; count += 1) {
      const run = await server.run("calls");
      await fetch(`${server.address}/api/v1/runs/${run}/events`, { headers: { accept: "text/event-stream" } }).then((response) => response.text());
    }
    await browser.goto(`${server.address}/ui/resilience`);
    await browser.leads(() => browser.click(`#services a[href="/ui/resilience/billing"]`));
    await browser.until(textHas("2 calls, 2 failures"), "the chart of calls");
    check(await browser.evaluate(`${textHas("1 refused call")} && document.querySelectorAll("#charts rect.failures").length > 0`), "refusals or failures are missing");
    check(await browser.evaluate(`document.querySelector("#history tbody tr").innerText.includes("2 failures in a row")`), "the cause is missing");
    await browser.click(".heading .confirm summary");
    await browser.leads(() => browser.click(".heading .confirm[open] button.danger"));
    await browser.until(textHas("The circuit is closed."), "what was done");
    check(await browser.evaluate(`document.querySelector("#history tbody tr").innerText.includes("api")`), "the history does not say by whom");
  },
  async "hostile names, outputs and errors do nothing"() {
    const run = await server.run("evil");
    for (const path of [`?`, `?action=${encodeURIComponent(EVIL)}`, "?tab=timeline", "?tab=events", "?tab=data", "?tab=definition", "?tab=chat"]) {
      await browser.goto(`${server.address}/ui/runs/${run}${path}`);
      check(await browser.evaluate("document.querySelectorAll('main img, main script, main [onload], main [onerror]').length === 0"), `${path} has markup of the run`);
    }
    await browser.goto(`${server.address}/ui/runs?errorText=${encodeURIComponent(EVIL)}&workflow=${encodeURIComponent(EVIL)}`);
    check(await browser.evaluate("document.querySelectorAll('main img').length === 0"), "the list has markup of the filter");
  },
  async "a definition is checked while it is typed"() {
    await browser.goto(`${server.address}/ui/workflows/slow`);
    await browser.click("#editor > summary");
    await browser.evaluate(`document.querySelector("#editor textarea").value = '{"definition": {"actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {"None": ["Succeeded"]}}}}}'`);
    await browser.click("#editor textarea");
    browser.expected = /400/;
    await browser.type(" ");
    await browser.until(`document.querySelector("#diagnostics").innerText.includes("Line 1, column")`, "diagnostics");
    browser.expected = null;
  },
  async "everything is reached with the keyboard"() {
    const run = await server.run("loop");
    await browser.goto(`${server.address}/ui/runs?workflow=loop`);
    await browser.until(`!!document.querySelector('#runs a[href="/ui/runs/${run}"]')`, "the run");
    const focused = "(document.activeElement.getAttribute('href') ?? document.activeElement.id ?? '')";
    const tabTo = async (wanted, what) => {
      for (let presses = 0; presses < 80; presses += 1) {
        await browser.press("Tab");
        if (await browser.evaluate(`(${wanted})(document.activeElement)`)) return;
      }
      throw new Error(`${browser.where}: ${what} is not reached with Tab; the focus is at ${await browser.evaluate(focused)}`);
    };
    await tabTo(`(element) => element.classList.contains("skip")`, "the link to the content");
    await browser.press("Enter");
    await tabTo(`(element) => element.getAttribute("href") === "/ui/runs/${run}"`, "the run");
    const ring = await browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    check(ring !== "none", "the focus cannot be seen");
    await browser.leads(() => browser.press("Enter"));
    await tabTo(`(element) => (element.getAttribute("href") ?? "").includes("action=Check") && element.closest("#graph")`, "the node of an action");
    await browser.leads(() => browser.press("Enter"));
    await browser.until(textHas("Execution 37 of 60"), "the panel of the action");
    await tabTo(`(element) => element.matches("#run-actions summary") && element.textContent === "Delete"`, "the button that deletes the run");
    await browser.press("Enter");
    await browser.until(`!!document.querySelector("#run-actions details[open]")`, "the question");
    await browser.press("Escape");
    check(await browser.evaluate(`!document.querySelector("#run-actions details[open]") && document.activeElement.textContent === "Delete"`), "Escape does not close it");
  },
  async "a token signs in, a wrong proof is refused, and a session that only looks changes nothing"() {
    const { address } = guarded;
    await browser.goto(`${address}/ui/workflows`);
    check(await browser.evaluate("location.pathname") === "/ui/login", "the page does not lead to the login");
    await browser.click("input[name=token]");
    browser.expected = /403/;
    await browser.type("wrong");
    await browser.leads(() => browser.press("Enter"));
    await browser.until(textHas("This token is not valid."), "the refusal");
    browser.expected = null;
    await browser.click("input[name=token]");
    await browser.type(TOKEN);
    await browser.leads(() => browser.press("Enter"));
    check(await browser.evaluate("location.pathname") === "/ui/workflows", "the login does not lead back");
    check(await browser.evaluate("document.cookie") === "", "scripts can read the session");
    browser.expected = /403/;
    const forged = await browser.evaluate(`fetch("/ui/workflows/slow/disable", { method: "POST", body: new URLSearchParams({ csrf: "0" }) }).then((response) => response.status)`);
    check(forged === 403, `a form with a wrong proof has the status ${forged}`);
    const bare = await browser.evaluate(`fetch("/api/v1/workflows/slow/disable", { method: "POST" }).then((response) => response.status)`);
    check(bare === 403, `a request without a proof has the status ${bare}`);
    browser.expected = null;
    for (const path of ["runs", "workflows", "workflows/slow", "resilience", "memory", "secrets", "access", "status"]) {
      await browser.goto(`${address}/ui/${path}`);
      check(await browser.evaluate("location.pathname") === `/ui/${path}`, `${path} is not shown`);
    }
    await browser.goto(`${address}/ui/workflows/slow`);
    check(await browser.evaluate(`!!document.querySelector("form[action$='/disable']")`), "an operator has no button");
    await browser.leads(() => browser.click("form[action='/ui/logout'] button"));
    await browser.goto(`${address}/ui/runs`);
    check(await browser.evaluate("location.pathname") === "/ui/login", "the session has not ended");
    await browser.click("input[name=readOnly]");
    await browser.click("input[name=token]");
    await browser.type(TOKEN);
    await browser.leads(() => browser.press("Enter"));
    await browser.goto(`${address}/ui/workflows/slow`);
    check(await browser.evaluate(`!document.querySelector("main form")`), "a visitor who only looks has forms");
  },
};

try {
  server = await Server.start(await freePort(), "--data", join(work, "data"));
  guarded = await Server.start(await freePort(), "--memory", "--token", TOKEN);
  await browser.dress("light", 1280);
  for (const [name, flow] of Object.entries(flows)) {
    browser.where = name;
    const begun = Date.now();
    await flow();
    if (browser.problems.length) throw new Error(browser.problems.join("\n"));
    console.log(`ui: ${name} (${((Date.now() - begun) / 1_000).toFixed(1)} s)`);
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await browser.close();
  await server?.end("SIGKILL");
  await guarded?.end("SIGKILL");
  rmSync(work, { recursive: true, force: true });
}
