// A form's values as specifications: one SAE, or where lists were typed a sweep over all their combinations.
//
// A list is written with commas, "16, 32, 64". Only fields that belong to an SAE take one; what belongs to
// the stream (model, corpora, tokens, batch size, seed) is the same for all.
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { checkId, type FormErrors, type FormValues } from "../forms/fields";
import { SweepSpecSchema, TrainingSpecSchema, type SweepSpec } from "../gen/featurescope/v1/training_pb.js";
import { counts } from "./architectures";
import { spec_fields, specField, type SpecField, type TrainingSpec } from "./fields";

// More would hardly be meant.
export const most_members = 64;

const of_the_stream = new Set(["sae_id", "model_id", "corpus_id", "preset", "corpus_weight", "tokens", "epochs", "batch_size", "seed"]);

export function takesList(field: SpecField): boolean {
  if (of_the_stream.has(field.name) || field.group === "stream") return false;
  return field.kind === "whole" || field.kind === "real" || ["architecture", "hook_name", "hook_name_out"].includes(field.name);
}

export function splitList(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

export interface Member {
  id: string;
  // One value for each field.
  values: FormValues;
  // The fields in which the members differ, with this one's values.
  differs: [string, string][];
}

const textOf = (values: FormValues, name: string) => (values[name] ?? "").trim();

// Fields with several values that count for an architecture.
function axesOf(values: FormValues, architecture: string): [SpecField, string[]][] {
  const penalty = textOf(values, "sparsity_penalty");
  return spec_fields
    .filter((field) => takesList(field) && field.name !== "architecture" && counts(field, architecture, penalty))
    .map((field): [SpecField, string[]] => [field, splitList(textOf(values, field.name))])
    .filter(([, parts]) => parts.length > 1);
}

const short_names: Record<string, string> = {
  d_sae: "d",
  k: "k",
  l1_coefficient: "l1-",
  l0_coefficient: "l0c-",
  target_l0: "l0-",
  learning_rate: "lr",
  expansion: "x",
  auxk_coefficient: "aux",
};

// "blocks.3.hook_mlp_out" is l3 where only layers differ, else l3-mlp-out.
function hookPart(hook: string, all: readonly string[]): string {
  const found = /^blocks\.(\d+)\.(.*)$/.exec(hook);
  if (found === null) return hook.replace(/[^a-z0-9.-]+/gi, "-");
  const [, layer = "", point = ""] = found;
  const isAlone = all.every((other) => other.endsWith(`.${point}`));
  return isAlone ? `l${layer}` : `l${layer}-${point.replace(/^hook_/, "").replace(/[^a-z0-9]+/g, "-")}`;
}

function idPart(field: SpecField, text: string, all: readonly string[]): string {
  if (field.name === "architecture") return text.replaceAll("_", "-");
  if (field.name === "hook_name" || field.name === "hook_name_out") return hookPart(text, all);
  return `${short_names[field.name] ?? `${field.name}-`}${text.toLowerCase().replace(/[^0-9a-z.-]/g, "")}`;
}

// The SAEs that a form makes, in the order of the lists; one, where there is no list.
export function membersOf(values: FormValues): Member[] {
  const chosen = splitList(textOf(values, "architecture"));
  const members: Member[] = [];
  for (const architecture of chosen.length === 0 ? [""] : chosen) {
    let found: Member[] = [{ id: textOf(values, "sae_id"), values: { ...values, architecture }, differs: [] }];
    const axes: [SpecField, string[]][] = axesOf(values, architecture);
    if (chosen.length > 1) axes.unshift([specField("architecture"), [architecture]]);
    for (const [field, parts] of axes) {
      found = found.flatMap((member) =>
        parts.map((part) => ({
          id: `${member.id}-${idPart(field, part, parts)}`,
          values: { ...member.values, [field.name]: part },
          differs: [...member.differs, [field.name, part] as [string, string]],
        })),
      );
      if (found.length > most_members) break;
    }
    members.push(...found);
  }
  return members;
}

function readValue(field: SpecField, text: string): unknown {
  switch (field.kind) {
    case "flag":
      return text === "yes";
    case "whole":
      return field.isBig ? BigInt(Number(text)) : Number(text);
    case "real":
      return Number(text);
    case "wholes":
      return splitList(text).map((part) => BigInt(Number(part)));
    case "reals":
      return splitList(text).map(Number);
    default:
      return text;
  }
}

type SpecInit = Exclude<MessageInitShape<typeof TrainingSpecSchema>, TrainingSpec>;

// Whether activations come from a cache or from files, and not from a model on a corpus.
export function readsFiles(values: FormValues): boolean {
  return textOf(values, "cache_id") !== "" || rawLines(values, "raw_inputs").length > 0;
}

const of_corpora = new Set(["corpus_id", "corpus_weight"]);

// What is not one value of one field: mixtures and activations from files.
function readParts(values: FormValues): SpecInit {
  const init: SpecInit = {};
  const more = splitList(textOf(values, "more_corpora"));
  if (more.length > 0 && !readsFiles(values)) {
    init.moreCorpora = more.map((part) => {
      const [corpusId = "", weight = "0"] = part.split(":").map((piece) => piece.trim());
      return { corpusId, weight: Number(weight) };
    });
  }
  const cacheId = textOf(values, "cache_id");
  const channels = ["raw_inputs", "raw_targets"].map((name) => rawLines(values, name)).filter((paths) => paths.length > 0);
  if (cacheId !== "") init.activations = { cacheId };
  else if (channels.length > 0) init.activations = { channels: channels.map((paths) => ({ paths, dtype: textOf(values, "raw_dtype") })) };
  return init;
}

function rawLines(values: FormValues, name: string): string[] {
  return textOf(values, name)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

function readFields(values: FormValues, fields: readonly SpecField[]): SpecInit {
  const penalty = textOf(values, "sparsity_penalty");
  const hasFiles = readsFiles(values);
  const set = fields
    .filter((field) => textOf(values, field.name) !== "" && counts(field, textOf(values, "architecture"), penalty))
    .filter((field) => !hasFiles || !of_corpora.has(field.name));
  return Object.fromEntries(set.map((field) => [field.key, readValue(field, textOf(values, field.name))])) as SpecInit;
}

// The specification of one SAE. What is empty, or belongs to another architecture, is left unset.
//   REQUIRES: checkSpec(values) found nothing, and no lists
export function toTrainingSpec(values: FormValues): TrainingSpec {
  return create(TrainingSpecSchema, { ...readFields(values, spec_fields), ...readParts(values) });
}

// The sweep that a form stands for; without members where it is a single SAE.
export function toSweep(values: FormValues): SweepSpec {
  const members = membersOf(values);
  const [only] = members;
  if (members.length === 1 && only !== undefined) {
    return create(SweepSpecSchema, { base: toTrainingSpec({ ...only.values, sae_id: only.id }) });
  }
  // In common is what has one value that counts for all.
  const isCommon = (field: SpecField) => {
    if (field.name === "sae_id") return false;
    const texts = new Set(members.map((m) => (counts(field, m.values["architecture"] ?? "", textOf(values, "sparsity_penalty")) ? textOf(m.values, field.name) : null)));
    return texts.size === 1;
  };
  const common = spec_fields.filter(isCommon);
  const own = spec_fields.filter((field) => !isCommon(field));
  return create(SweepSpecSchema, {
    base: { ...readFields(only?.values ?? values, common), ...readParts(values) },
    members: members.map((member) => readFields({ ...member.values, sae_id: member.id }, own)),
  });
}

function checkOne(field: SpecField, text: string): string | undefined {
  if (field.kind === "choice" && field.name !== "architecture") return undefined; // Chosen from a list; the server knows better.
  if (field.kind !== "whole" && field.kind !== "real" && field.kind !== "wholes" && field.kind !== "reals") return undefined;
  const value = Number(text);
  if (Number.isNaN(value)) return `"${text}" is not a number`;
  const isWhole = field.kind === "whole" || field.kind === "wholes";
  if (isWhole && !Number.isSafeInteger(value)) return `${text} is not a whole number`;
  if (isWhole && !field.isSigned && value < 0) return `${text} is less than 0`;
  if (isWhole && !field.isBig && value >= 2 ** (field.isSigned ? 31 : 32)) return `${text} is too large`;
  return Number.isFinite(value) ? undefined : `${text} is too large`;
}

function checkField(field: SpecField, text: string): string | undefined {
  if (text === "") return undefined;
  const isList = takesList(field) || field.kind === "wholes" || field.kind === "reals";
  const parts = isList ? splitList(text) : [text];
  if (!isList && splitList(text).length > 1 && (field.kind === "whole" || field.kind === "real")) {
    return "one number: all SAEs of a sweep read the same stream";
  }
  if (takesList(field) && new Set(parts).size < parts.length) return "the same value twice";
  return parts.map((part) => checkOne(field, part)).find((problem) => problem !== undefined);
}

function checkMore(text: string): string | undefined {
  const wrong = splitList(text).find((part) => !/^[^\s:]+(\s*:\s*[0-9.eE+-]+)?$/.test(part));
  return wrong === undefined ? undefined : `"${wrong}" is neither CORPUS nor CORPUS:WEIGHT`;
}

// What can be said of the values without asking the server, by field.
export function checkSpec(values: FormValues): FormErrors {
  const errors: FormErrors = {};
  const add = (name: string, problem: string | undefined) => {
    if (problem !== undefined) errors[name] = problem;
  };
  const chosen = splitList(textOf(values, "architecture"));
  const penalty = textOf(values, "sparsity_penalty");
  for (const field of spec_fields) {
    if ((chosen.length === 0 ? [""] : chosen).some((a) => counts(field, a, penalty))) add(field.name, checkField(field, textOf(values, field.name)));
  }
  add("sae_id", checkId(textOf(values, "sae_id")));
  if (textOf(values, "hook_name") === "") add("hook_name", "a hook point is needed");
  add("more_corpora", checkMore(textOf(values, "more_corpora")));
  if (Object.keys(errors).length > 0) return errors;
  const members = membersOf(values);
  if (members.length > most_members) add("sae_id", `more than ${most_members} SAEs: shorten a list`);
  else add("sae_id", members.map((member) => checkId(member.id)).find((problem) => problem !== undefined));
  return errors;
}
