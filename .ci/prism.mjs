// Serves every description of a directory with Stoplight Prism, each on a port of its own, and prints the addresses as JSON:
// node prism.mjs MODULES DIRECTORY
//
// Requests are validated, and invalid ones get an error. Three properties of published documents are beyond Prism's own parser,
// and are repaired in the copy that it serves: an empty `consumes` becomes JSON, a space in the name of a path parameter
// becomes a hyphen, and headers of responses are dropped, because some have names that Node cannot send.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const [modules, directory] = process.argv.slice(2);
const require = createRequire(path.join(modules, 'index.js'));
const { getHttpOperationsFromSpec } = require('@stoplight/prism-http');
const { createServer } = require('@stoplight/prism-http-server');
const { createLogger } = require('@stoplight/prism-core');

const hyphenated = (name) => name.replaceAll(' ', '-');

function repair(node) {
  if (Array.isArray(node.consumes) && node.consumes.length === 0) node.consumes = ['application/json'];
  for (const parameter of Object.values(node.parameters ?? {})) {
    if (parameter.in === 'path') parameter.name = hyphenated(parameter.name);
  }
  for (const response of Object.values(node.responses ?? {})) delete response.headers;
}

function repaired(document) {
  repair(document);
  const paths = {};
  for (const [template, item] of Object.entries(document.paths)) {
    repair(item);
    for (const operation of Object.values(item)) repair(operation);
    paths[template.replace(/\{[^}]*\}/g, hyphenated)] = item;
  }
  document.paths = paths;
  return document;
}

const logger = createLogger('prism', { level: 'silent' });
const config = {
  mock: { dynamic: false, ignoreExamples: true },
  validateRequest: true, validateResponse: false, checkSecurity: true, errors: true, isProxy: false,
};
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'prism-'));
const addresses = {};
for (const file of fs.readdirSync(directory).filter((file) => file.endsWith('.swagger.json')).sort()) {
  const copy = path.join(work, file);
  fs.writeFileSync(copy, JSON.stringify(repaired(JSON.parse(fs.readFileSync(path.join(directory, file), 'utf8')))));
  const server = createServer(await getHttpOperationsFromSpec(copy), { components: { logger }, cors: false, config });
  addresses[file.slice(0, -'.swagger.json'.length)] = await server.listen(0, '127.0.0.1');
}
fs.rmSync(work, { recursive: true });
console.log(JSON.stringify(addresses));
