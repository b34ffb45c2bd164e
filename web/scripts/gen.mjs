// Generates src/gen from ../proto: protoc (Debian's protobuf-compiler) with protoc-gen-es, and what the
// contract says of the fields of specifications, which forms show (comments.js).
//
// Runs in well under a second, so every script that needs the code simply runs it again. PROTOC names
// another protoc than the one on the PATH.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

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
      `--descriptor_set_out=${join(fresh, "contract.pb")}`,
      "--include_source_info",
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

// The comment before each field of the messages called ...Spec, by "Message.field", with its line breaks.
function commentsOf(set) {
  const comments = {};
  for (const file of set.file) {
    for (const { path, leadingComments } of file.sourceCodeInfo?.location ?? []) {
      if (path.length !== 4 || path[0] !== 4 || path[2] !== 2) continue;
      const message = file.messageType[path[1]];
      if (!message?.name.endsWith("Spec") || leadingComments === "") continue;
      const lines = leadingComments.split("\n").map((line) => line.trim());
      comments[`${message.name}.${message.field[path[3]].name}`] = lines.join("\n").trim();
    }
  }
  return comments;
}
const set = join(fresh, "contract.pb");
const comments = commentsOf(fromBinary(FileDescriptorSetSchema, readFileSync(set)));
rmSync(set);
writeFileSync(join(fresh, "comments.js"), `export const comments = ${JSON.stringify(comments, null, 2)};\n`);
writeFileSync(join(fresh, "comments.d.ts"), "export declare const comments: Record<string, string>;\n");

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
