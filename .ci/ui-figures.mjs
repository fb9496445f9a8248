// Figures of the pages for docs/benchmarks.md: times of pages, sizes of assets, and many watchers of one page.
//
// node ui-figures.mjs LOOM
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const loom = process.argv[2];
const work = mkdtempSync(join(tmpdir(), "loom-figures-"));
mkdirSync(join(work, "workflows"));
// 50 loops of nine actions each, in a chain.
const actions = {};
for (let loop = 0; loop < 50; loop += 1) {
  const inside = {};
  for (let place = 0; place < 9; place += 1) {
    inside[`Step_${loop}_${place}`] = { type: "Compose", inputs: place, runAfter: place ? { [`Step_${loop}_${place - 1}`]: ["Succeeded"] } : {} };
  }
  actions[`Loop_${loop}`] = { type: "Foreach", foreach: "@range(0, 2)", actions: inside, runAfter: loop ? { [`Loop_${loop - 1}`]: ["Succeeded"] } : {} };
}
const manual = { manual: { type: "Request" } };
writeFileSync(join(work, "workflows", "large.json"), JSON.stringify({ definition: { triggers: manual, actions } }));
const ticks = { Ticks: { type: "Foreach", foreach: "@range(0, 20)", runAfter: {}, runtimeConfiguration: { concurrency: { repetitions: 1 } },
  actions: { Tick: { type: "Wait", inputs: { interval: { count: 1, unit: "Second" } }, runAfter: {} } } } };
writeFileSync(join(work, "workflows", "ticks.json"), JSON.stringify({ definition: { triggers: manual, actions: ticks } }));

const server = spawn(loom, ["serve", "--workflows", join(work, "workflows"), "--memory", "--addr", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "ignore"], cwd: work });
const address = await new Promise((resolve) => {
  let out = "";
  server.stdout.setEncoding("utf8").on("data", (text) => {
    out += text;
    const found = /listening on (\S+)/.exec(out);
    if (found) resolve(found[1]);
  });
});
const timed = (path) => new Promise((resolve, reject) => {
  const begun = performance.now();
  request(address + path, (response) => {
    let first = 0;
    let bytes = 0;
    response.on("data", (chunk) => { first ||= performance.now() - begun; bytes += chunk.length; });
    response.on("end", () => resolve({ first, whole: performance.now() - begun, bytes, status: response.statusCode }));
  }).on("error", reject).end();
});
const start = async (workflow) => (await fetch(`${address}/workflows/${workflow}/triggers/manual/invoke`, { method: "POST" })).headers.get("x-ms-workflow-run-id");
const median = (all) => all.toSorted((left, right) => left - right)[Math.floor(all.length / 2)];
const show = (number) => number.toFixed(1);
try {
  const run = await start("large");
  while (!(await (await fetch(`${address}/api/v1/runs/${run}`)).json()).endTime) await new Promise((resolve) => setTimeout(resolve, 100));
  console.log("| Page | First byte, ms | Whole, ms | Longest of 30, ms | KB |\n|---|---|---|---|---|");
  const pages = { "Runs": "/ui/runs", "Run of 500 actions": `/ui/runs/${run}`, "Timeline of its first 100 executions": `/ui/runs/${run}?tab=timeline`, "Workflow of 500 actions": "/ui/workflows/large",
    "Workflows": "/ui/workflows", "Resilience": "/ui/resilience", "Memory": "/ui/memory", "Access": "/ui/access", "Status": "/ui/status" };
  for (const [name, path] of Object.entries(pages)) {
    const all = [];
    for (let count = 0; count < 31; count += 1) all.push(await timed(path));
    // The first one draws what is kept for the others.
    const rest = all.slice(1);
    if (rest.some((one) => one.status !== 200)) throw new Error(`${path}: ${rest[0].status}`);
    console.log(`| ${name} | ${show(median(rest.map((one) => one.first)))} | ${show(median(rest.map((one) => one.whole)))} | ${show(Math.max(...rest.map((one) => one.whole)))} | ${Math.round(rest[0].bytes / 1024)} |`);
  }
  const [css, js] = [await timed("/ui/assets/loom.css"), await timed("/ui/assets/loom.js")];
  console.log(`\nstylesheet ${(css.bytes / 1024).toFixed(1)} KB, script ${(js.bytes / 1024).toFixed(1)} KB`);

  // 200 watchers: each has the stream of the run, and asks for the page when there is news, as the script does.
  const watched = await start("ticks");
  const took = [];
  let failures = 0;
  const watch = async () => {
    const stop = new AbortController();
    const response = await fetch(`${address}/api/v1/runs/${watched}/events`, { headers: { accept: "text/event-stream" }, signal: stop.signal });
    const reader = response.body.getReader();
    let asking = false;
    let again = false;
    const refresh = async () => {
      if (asking) { again = true; return; }
      asking = true;
      const page = await timed(`/ui/runs/${watched}`).catch(() => null);
      if (page?.status === 200) took.push(page.whole); else failures += 1;
      setTimeout(() => { asking = false; if (again) { again = false; refresh(); } }, Math.max(500, 3 * (page?.whole ?? 0)));
    };
    for (;;) {
      const { done } = await reader.read();
      if (done) return;
      refresh();
    }
  };
  await Promise.all(Array.from({ length: 200 }, watch));
  const sorted = took.toSorted((left, right) => left - right);
  console.log(`200 watchers of one page for 20 s: ${took.length} pages, p50 ${show(median(took))} ms, p99 ${show(sorted[Math.floor(sorted.length * 0.99)])} ms, longest ${show(sorted.at(-1))} ms, ${failures} failures`);
} finally {
  server.kill("SIGKILL");
  rmSync(work, { recursive: true, force: true });
}
