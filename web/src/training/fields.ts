// The fields of a TrainingSpec as a form has them, read off the contract's descriptor: what kind of value
// each takes, which choices it has, and what the contract says of it.
//
// Groups are the sections of the contract, e.g. "optimiser"; the first has no heading and is "run".
import { ScalarType, type DescField, type MessageShape } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";

import { comments } from "../gen/comments.js";
import { TrainingSpecSchema } from "../gen/featurescope/v1/training_pb.js";

export type TrainingSpec = MessageShape<typeof TrainingSpecSchema>;

export interface SpecField {
  // As the contract names it; also the name in forms, links and the server's messages.
  name: string;
  // As the generated code names it.
  key: string;
  kind: "text" | "choice" | "flag" | "whole" | "real" | "wholes" | "reals";
  // 64-bit whole numbers are bigints in the generated code.
  isBig: boolean;
  isSigned: boolean;
  // Unset differs from 0.
  isOptional: boolean;
  group: string;
  // The contract's words.
  hint: string;
  // Of a choice, the names.
  choices: string[];
}

const whole_types = new Set([ScalarType.UINT32, ScalarType.INT32, ScalarType.UINT64, ScalarType.INT64]);
const big_types = new Set([ScalarType.UINT64, ScalarType.INT64]);
const signed_types = new Set([ScalarType.INT32, ScalarType.INT64]);

// "adam, adamw, signum." or "all, middle, last: which ..." gives the names.
const choices_pattern = /^([a-z0-9_]+(?:,\s+[a-z0-9_]+)+)\s*[.;:]\s*/;

export function choicesIn(comment: string): string[] {
  const found = choices_pattern.exec(comment);
  return found === null ? [] : (found[1] ?? "").split(/,\s+/);
}

// What the contract says beside the choices, as a sentence.
function withoutChoices(comment: string): string {
  const rest = comment.replace(choices_pattern, "");
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}

function kindOf(field: DescField, choices: string[]): SpecField["kind"] | undefined {
  if (field.fieldKind === "list" && field.listKind === "scalar") return whole_types.has(field.scalar) ? "wholes" : "reals";
  if (field.fieldKind !== "scalar") return undefined;
  if (field.scalar === ScalarType.STRING) return choices.length > 0 ? "choice" : "text";
  if (field.scalar === ScalarType.BOOL) return "flag";
  return whole_types.has(field.scalar) ? "whole" : "real";
}

function readFields(): SpecField[] {
  const fields: SpecField[] = [];
  let group = "run";
  for (const field of TrainingSpecSchema.fields) {
    const comment = comments[`TrainingSpec.${field.name}`] ?? "";
    const [first = "", ...rest] = comment.split("\n");
    const isHeading = first.startsWith("---- ");
    if (isHeading) group = first.slice(5);
    const hint = (isHeading ? rest : [first, ...rest]).join(" ");
    const choices = choicesIn(hint);
    const kind = kindOf(field, choices);
    if (kind === undefined) continue; // Messages have parts of the form of their own.
    const scalar = field.fieldKind === "scalar" || field.fieldKind === "list" ? field.scalar : undefined;
    fields.push({
      name: field.name,
      key: field.localName,
      kind,
      isBig: scalar !== undefined && big_types.has(scalar),
      isSigned: scalar !== undefined && signed_types.has(scalar),
      isOptional: field.presence === FeatureSet_FieldPresence.EXPLICIT,
      group,
      hint: kind === "choice" ? withoutChoices(hint) : hint,
      choices: kind === "choice" ? choices : [],
    });
  }
  return fields;
}

export const spec_fields: readonly SpecField[] = readFields();

const by_name = new Map(spec_fields.map((field) => [field.name, field]));

export function specField(name: string): SpecField {
  const field = by_name.get(name);
  if (field === undefined) throw new Error(`TrainingSpec has no field ${name}`);
  return field;
}

// The text of a field's value; empty where it is unset.
export function fieldText(spec: TrainingSpec | undefined, field: SpecField): string {
  if (spec === undefined) return "";
  const value = (spec as unknown as Record<string, unknown>)[field.key];
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return "";
  if (Array.isArray(value)) return value.map(String).join(", ");
  if (!field.isOptional && (value === "" || Number(value) === 0) && field.kind !== "text" && field.kind !== "choice") return "";
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}
