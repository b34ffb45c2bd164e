// Generates src/gen from ../proto: protoc (Debian's protobuf-compiler) with protoc-gen-es.
//
// Runs in well under a second, so every script that needs the code simply runs it again. PROTOC names
// another protoc than the one on the PATH.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const proto = join(web, "..", "proto");
const out = join(web, "src", "gen");
const contract = join(proto, "featurescope", "v1");

const files = readdirSync(contract)
  .filter((name) => name.endsWith(".proto"))
  .sort()
  .map((name) => join(contract, name));

const fresh = mkdtempSync(join(tmpdir(), "featurescope-gen-"));
try {
  execFileSync(
    process.env.PROTOC ?? "protoc",
    [
      `--plugin=protoc-gen-es=${join(web, "node_modules", ".bin", "protoc-gen-es")}`,
      `--es_out=${fresh}`,
      "--es_opt=target=js+dts,import_extension=js",
      `-I${proto}`,
      ...files,
    ],
    { stdio: "inherit" },
  );
} catch (error) {
  if (error.code === "ENOENT") {
    console.error("protoc was not found: install protobuf-compiler, or set PROTOC to its path");
  }
  rmSync(fresh, { recursive: true, force: true });
  process.exit(1);
}

// Files that did not change are left alone: a test run or a development server may be reading them.
function same(a, b) {
  try {
    return readFileSync(a).equals(readFileSync(b));
  } catch {
    return false;
  }
}
const generated = readdirSync(fresh, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
for (const entry of generated) {
  const from = join(entry.parentPath, entry.name);
  const to = join(out, relative(fresh, from));
  mkdirSync(dirname(to), { recursive: true });
  if (!same(from, to)) cpSync(from, to);
}
rmSync(fresh, { recursive: true, force: true });
