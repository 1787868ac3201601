#!/usr/bin/env node
// The `solc` executable that Foundry asks for, answered by the npm package of the compiler (WebAssembly).
import { createRequire } from 'node:module';
import { readFileSync, writeSync } from 'node:fs';

const solc = createRequire(import.meta.url)('solc');
// The package turns every error of the process into its own; ours should print as they are.
process.removeAllListeners('uncaughtException');

function print(text) {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error; // a full pipe is normal
    }
  }
}

const args = process.argv.slice(2);
if (args.includes('--version')) {
  const version = solc.version().replace('.Emscripten.clang', '.Linux.g++');
  print(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
} else if (args.includes('--standard-json')) {
  // --allow-paths, --base-path and --include-path can be ignored: Foundry puts every source into the request.
  print(solc.compile(readFileSync(0, 'utf8')));
} else {
  console.error(`solc.mjs: expected --version or --standard-json, got ${args.join(' ')}`);
  process.exit(1);
}
