// Chromium over the protocol of its developer tools: messages in JSON that end with a zero byte. Needs nothing but Node.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Each wait ends with an error after so many milliseconds.
const PATIENCE = 30_000;

export class Browser {
  problems = [];
  where = "";
  #number = 0;
  #read = "";
  #waiting = new Map();
  #loaded = [];

  static async open() {
    const browser = new Browser();
    browser.profile = mkdtempSync(join(tmpdir(), "loom-ui-"));
    browser.process = spawn("chromium", [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
      `--user-data-dir=${browser.profile}`, "about:blank",
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    const [, , , input, output] = browser.process.stdio;
    browser.input = input;
    output.setEncoding("utf8");
    output.on("data", (chunk) => browser.#receive(chunk));
    const { targetInfos } = await browser.ask("Target.getTargets");
    const target = targetInfos.find((info) => info.type === "page");
    ({ sessionId: browser.session } = await browser.ask("Target.attachToTarget", { targetId: target.targetId, flatten: true }));
    for (const domain of ["Page", "Runtime", "Log"]) await browser.ask(`${domain}.enable`);
    return browser;
  }

  #receive(chunk) {
    this.#read += chunk;
    for (let end = this.#read.indexOf("\0"); end >= 0; end = this.#read.indexOf("\0")) {
      const message = JSON.parse(this.#read.slice(0, end));
      this.#read = this.#read.slice(end + 1);
      const { method, params } = message;
      if (message.id) {
        const { resolve, reject } = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.error) reject(new Error(message.error.message)); else resolve(message.result);
      } else if (method === "Page.loadEventFired") {
        for (const resolve of this.#loaded.splice(0)) resolve();
      } else if (method === "Log.entryAdded" && params.entry.level === "error") {
        // Violations of the content security policy are among them.
        this.#problem(`${params.entry.text} ${params.entry.url ?? ""}`);
      } else if (method === "Runtime.exceptionThrown") {
        this.#problem(params.exceptionDetails.text);
      } else if (method === "Page.javascriptDialogOpening") {
        this.#problem(`the page opened a dialog: ${params.message}`);
        this.ask("Page.handleJavaScriptDialog", { accept: false });
      }
    }
  }

  // Set to a pattern of problems that are expected, such as a server that is away.
  expected = null;

  #problem(text) {
    if (!this.expected?.test(text)) this.problems.push(`${this.where}: ${text}`);
  }

  ask(method, params = {}) {
    return new Promise((resolve, reject) => {
      this.#number += 1;
      this.#waiting.set(this.#number, { resolve, reject });
      this.input.write(JSON.stringify({ id: this.#number, method, params, sessionId: this.session }) + "\0");
    });
  }

  // Evaluated by the developer tools, which the content security policy does not concern.
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${this.where}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  async goto(url) {
    const loaded = new Promise((resolve) => this.#loaded.push(resolve));
    await this.ask("Page.navigate", { url });
    await loaded;
  }

  // Does something that leads to another page.
  async leads(act) {
    const loaded = new Promise((resolve) => this.#loaded.push(resolve));
    await act();
    await loaded;
  }

  async until(expression, what) {
    const end = Date.now() + PATIENCE;
    while (Date.now() < end) {
      // A page that is being replaced has no context for a moment.
      const found = await this.evaluate(expression).catch(() => false);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const text = await this.evaluate("document.body.innerText").catch(() => "");
    throw new Error(`${this.where}: expected ${what}, found: ${text.slice(0, 1_500)}`);
  }

  // A click with the mouse in the middle of the element, so that what covers it would be hit.
  async click(selector) {
    await this.until(`!!document.querySelector(${JSON.stringify(selector)})`, `an element ${selector}`);
    const { x, y } = await this.evaluate(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: "center" });
      const box = element.getBoundingClientRect();
      return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    })()`);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.ask("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  async type(text) {
    await this.ask("Input.insertText", { text });
  }

  async press(key, modifiers = 0) {
    const codes = { Tab: 9, Enter: 13, Escape: 27, " ": 32 };
    const text = key === "Enter" ? "\r" : key === " " ? " " : undefined;
    const code = key === " " ? "Space" : key;
    const event = { key, code, windowsVirtualKeyCode: codes[key], modifiers };
    await this.ask("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", text, ...event });
    await this.ask("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async dress(theme, width, height = 900) {
    await this.ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: theme }] });
    await this.ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  async picture(format = "png", whole = true) {
    const quality = format === "webp" ? { quality: 82 } : {};
    const { data } = await this.ask("Page.captureScreenshot", { format, captureBeyondViewport: whole, ...quality });
    return Buffer.from(data, "base64");
  }

  async close() {
    this.process.kill();
    await new Promise((resolve) => this.process.once("exit", resolve));
    try {
      rmSync(this.profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    } catch {
      // Processes of the browser that have not ended yet may still write there. It is a temporary directory.
    }
  }
}
