// The values of forms and what can be said of them without asking the server.
//
// All values are the texts that were typed; they live in the URL, so a form can be shared as a link.
import { optionalTextParam } from "../url/codec";

export interface NumberField {
  name: string;
  label: string;
  hint?: string;
  // What an empty field means; undefined: the field must be filled in.
  unset: string | undefined;
  min: number;
  max: number;
  whole: boolean;
  advanced?: boolean;
}

export type FormValues = Record<string, string>;
// What stands in the URL; undefined where nothing was typed yet.
export type TypedValues = Record<string, string | undefined>;
export type FormErrors = Record<string, string>;

export const textParams = (names: string[]) => Object.fromEntries(names.map((name) => [name, optionalTextParam()]));

const id_pattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;

export function checkId(id: string): string | undefined {
  if (id === "") return "an id is needed";
  return id_pattern.test(id) ? undefined : "small letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit";
}

// An id made of a name from elsewhere, as the server makes one: "openai-community/gpt2" gives "gpt2".
export function idFrom(name: string): string {
  const last = name.trim().split("@")[0]?.replace(/\/+$/, "").split("/").at(-1) ?? "";
  return last
    .toLowerCase()
    .replace(/^[^a-z0-9]+/, "")
    .replace(/[^a-z0-9._-]/g, "-")
    .slice(0, 64);
}

export function checkNumber(field: NumberField, text: string): string | undefined {
  if (text.trim() === "") return field.unset === undefined ? "a number is needed" : undefined;
  const value = Number(text);
  if (Number.isNaN(value)) return "not a number";
  if (field.whole && !Number.isSafeInteger(value)) return "not a whole number";
  return value < field.min || value > field.max ? `from ${field.min} to ${field.max}` : undefined;
}

export function checkNumbers(fields: NumberField[], values: FormValues): FormErrors {
  return withErrors(fields.map((field) => [field.name, checkNumber(field, values[field.name] ?? "")]));
}

// Those that are wrong.
export function withErrors(checks: (readonly [string, string | undefined])[]): FormErrors {
  return Object.fromEntries(checks.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

export function onlyTyped(typed: TypedValues): FormValues {
  return Object.fromEntries(Object.entries(typed).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

// A key for one submission: pressing the button twice makes one job.
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
