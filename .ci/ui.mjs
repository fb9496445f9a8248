// Opens pages of `loom serve` in Chromium, in both themes and at two widths, and checks each:
// axe-core finds no violation of WCAG A and AA, nothing is wider than the screen, and the browser reports no error.
//
// node ui.mjs AXE_DIRECTORY ADDRESS [--shots DIRECTORY] PATH...
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [axeDirectory, address, ...rest] = process.argv.slice(2);
const shots = rest[0] === "--shots" ? rest.splice(0, 2)[1] : null;
if (shots) mkdirSync(shots, { recursive: true });
const axe = readFileSync(join(axeDirectory, "axe.min.js"), "utf8");
const profile = mkdtempSync(join(tmpdir(), "loom-ui-"));
const browser = spawn("chromium", [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
  `--user-data-dir=${profile}`, "about:blank",
], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });

// The protocol of the browser's developer tools: messages in JSON that end with a zero byte.
const [, , , input, output] = browser.stdio;
let number = 0;
let read = "";
const waiting = new Map();
const problems = [];
let where = "";
output.setEncoding("utf8");
output.on("data", (chunk) => {
  read += chunk;
  for (let end = read.indexOf("\0"); end >= 0; end = read.indexOf("\0")) {
    const message = JSON.parse(read.slice(0, end));
    read = read.slice(end + 1);
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) reject(new Error(message.error.message)); else resolve(message.result);
    } else if (message.method === "Page.loadEventFired") {
      waiting.get("load")?.resolve();
    } else if (message.method === "Log.entryAdded" && message.params.entry.level === "error") {
      problems.push(`${where}: ${message.params.entry.text}`);
    } else if (message.method === "Runtime.exceptionThrown") {
      problems.push(`${where}: ${message.params.exceptionDetails.text}`);
    }
  }
});
let session;
const ask = (method, params = {}) => new Promise((resolve, reject) => {
  number += 1;
  waiting.set(number, { resolve, reject });
  input.write(JSON.stringify({ id: number, method, params, sessionId: session }) + "\0");
});
const evaluate = async (expression) => {
  const { result, exceptionDetails } = await ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(`${where}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
  return result.value;
};

const rules = JSON.stringify({
  runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] },
  // An experiment of axe-core: it does not see that names of nodes begin with what is visible, because texts of SVG have no spaces.
  rules: { "label-content-name-mismatch": { enabled: false } },
});
let checked = 0;
try {
  const { targetInfos } = await ask("Target.getTargets");
  const target = targetInfos.find((info) => info.type === "page");
  ({ sessionId: session } = await ask("Target.attachToTarget", { targetId: target.targetId, flatten: true }));
  for (const domain of ["Page", "Runtime", "Log"]) await ask(`${domain}.enable`);
  for (const theme of ["light", "dark"]) {
    await ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: theme }] });
    for (const width of [1280, 320]) {
      await ask("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
      for (const path of rest) {
        where = `${path} (${theme}, ${width})`;
        const loaded = new Promise((resolve) => waiting.set("load", { resolve }));
        await ask("Page.navigate", { url: address + path });
        await loaded;
        const wide = await evaluate("document.documentElement.scrollWidth - innerWidth");
        if (wide > 0) problems.push(`${where}: ${wide} pixels wider than the screen`);
        // Evaluated by the developer tools, which the content security policy does not concern.
        await evaluate(`${axe}; true`);
        const violations = await evaluate(`axe.run(document, ${rules}).then((found) => found.violations.map(
          (one) => one.id + ": " + one.nodes.slice(0, 3).map((node) => node.target.join(" ") + " — " + node.any.concat(node.all, node.none).map((check) => check.message).join("; ")).join(" | ")))`);
        problems.push(...violations.map((violation) => `${where}: ${violation}`));
        checked += 1;
        if (shots) {
          const name = `${path.replace(/^\/ui\//, "").replace(/[^a-z0-9]+/gi, "-")}-${theme}-${width}.png`;
          const { data } = await ask("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
          writeFileSync(join(shots, name), Buffer.from(data, "base64"));
        }
      }
    }
  }
} finally {
  browser.kill();
  await new Promise((resolve) => browser.once("exit", resolve));
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
if (problems.length) {
  console.error(problems.join("\n"));
  process.exit(1);
}
console.log(`ui: ${checked} views of ${rest.length} pages have no violation of WCAG A and AA, and fit the screen`);
