// Opens pages of `loom serve` in Chromium, in both themes and at two widths, and checks each:
// axe-core finds no violation of WCAG A and AA, nothing is wider than the screen, and the browser reports no error.
//
// node ui.mjs AXE_DIRECTORY ADDRESS [--shots DIRECTORY] PATH...
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Browser } from "./browser.mjs";

const [axeDirectory, address, ...rest] = process.argv.slice(2);
const shots = rest[0] === "--shots" ? rest.splice(0, 2)[1] : null;
if (shots) mkdirSync(shots, { recursive: true });
const axe = readFileSync(join(axeDirectory, "axe.min.js"), "utf8");
const rules = JSON.stringify({
  runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] },
  // An experiment of axe-core: it does not see that names of nodes begin with what is visible, because texts of SVG have no spaces.
  rules: { "label-content-name-mismatch": { enabled: false } },
});
const browser = await Browser.open();
let checked = 0;
try {
  for (const theme of ["light", "dark"]) {
    for (const width of [1280, 320]) {
      await browser.dress(theme, width);
      for (const path of rest) {
        browser.where = `${path} (${theme}, ${width})`;
        await browser.goto(address + path);
        const wide = await browser.evaluate("document.documentElement.scrollWidth - innerWidth");
        if (wide > 0) browser.problems.push(`${browser.where}: ${wide} pixels wider than the screen`);
        await browser.evaluate(`${axe}; true`);
        const violations = await browser.evaluate(`axe.run(document, ${rules}).then((found) => found.violations.map(
          (one) => one.id + ": " + one.nodes.slice(0, 3).map((node) => node.target.join(" ") + " — " + node.any.concat(node.all, node.none).map((check) => check.message).join("; ")).join(" | ")))`);
        browser.problems.push(...violations.map((violation) => `${browser.where}: ${violation}`));
        checked += 1;
        if (shots) {
          const name = `${path.replace(/^\/ui\//, "").replace(/[^a-z0-9]+/gi, "-")}-${theme}-${width}.png`;
          writeFileSync(join(shots, name), await browser.picture());
        }
      }
    }
  }
} finally {
  await browser.close();
}
if (browser.problems.length) {
  console.error(browser.problems.join("\n"));
  process.exit(1);
}
console.log(`ui: ${checked} views of ${rest.length} pages have no violation of WCAG A and AA, and fit the screen`);
