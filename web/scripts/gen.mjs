// Generates src/gen from ../proto: protoc (Debian's protobuf-compiler) with protoc-gen-es.
//
// Runs in well under a second, so every script that needs the code simply runs it again. PROTOC names
// another protoc than the one on the PATH.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const proto = join(web, "..", "proto");
const out = join(web, "src", "gen");
const contract = join(proto, "featurescope", "v1");

const files = readdirSync(contract)
  .filter((name) => name.endsWith(".proto"))
  .sort()
  .map((name) => join(contract, name));

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
try {
  execFileSync(
    process.env.PROTOC ?? "protoc",
    [
      `--plugin=protoc-gen-es=${join(web, "node_modules", ".bin", "protoc-gen-es")}`,
      `--es_out=${out}`,
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
  process.exit(1);
}
