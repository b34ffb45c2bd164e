// What a view keeps in the query string: a table of parameters, each with a default that is never written.
//
// A codec maps names to parameters. decode() never fails: a value that does not parse, or is out of range,
// is the default. encode() changes only the codec's own keys, so several panels share one URL.

export interface Param<T> {
  parse(raw: string | null): T;
  // Null: leave the key out.
  format(value: T): string | null;
}

type ValueOf<P> = P extends Param<infer T> ? T : never;
export type Values<C> = { [K in keyof C]: ValueOf<C[K]> };

export function textParam(fallback = ""): Param<string> {
  return {
    parse: (raw) => raw ?? fallback,
    format: (value) => (value === fallback ? null : value),
  };
}

// A text that may be absent, which is not the same as empty.
export function optionalTextParam(): Param<string | undefined> {
  return { parse: (raw) => raw ?? undefined, format: (value) => value ?? null };
}

interface Range {
  min?: number;
  max?: number;
}

function readNumber(raw: string | null, range: Range): number | undefined {
  if (raw === null || raw.trim() === "") return undefined;
  const value = Number(raw);
  if (!Number.isFinite(value)) return undefined;
  if (range.min !== undefined && value < range.min) return undefined;
  if (range.max !== undefined && value > range.max) return undefined;
  return value;
}

export function numberParam(fallback: number, range: Range = {}): Param<number> {
  return {
    parse: (raw) => readNumber(raw, range) ?? fallback,
    format: (value) => (value === fallback || !Number.isFinite(value) ? null : String(value)),
  };
}

export function intParam(fallback: number, range: Range = {}): Param<number> {
  return {
    parse: (raw) => {
      const value = readNumber(raw, range);
      return value !== undefined && Number.isSafeInteger(value) ? value : fallback;
    },
    format: (value) => (value === fallback || !Number.isSafeInteger(value) ? null : String(value)),
  };
}

// A bound that may be absent.
export function optionalNumberParam(range: Range = {}): Param<number | undefined> {
  return {
    parse: (raw) => readNumber(raw, range),
    format: (value) => (value === undefined || !Number.isFinite(value) ? null : String(value)),
  };
}

export function flagParam(fallback = false): Param<boolean> {
  return {
    parse: (raw) => (raw === "1" ? true : raw === "0" ? false : fallback),
    format: (value) => (value === fallback ? null : value ? "1" : "0"),
  };
}

export function choiceParam<const T extends string>(choices: readonly T[], fallback: T): Param<T> {
  return {
    parse: (raw) => choices.find((choice) => choice === raw) ?? fallback,
    format: (value) => (value === fallback ? null : value),
  };
}

export function decode<C extends object>(codec: C, search: string): Values<C> {
  const query = new URLSearchParams(search);
  const entries = Object.entries(codec as Record<string, Param<unknown>>);
  return Object.fromEntries(entries.map(([key, param]) => [key, param.parse(query.get(key))])) as Values<C>;
}

// The query string (without "?") after `patch`; keys of other codecs stay as they are.
export function encode<C extends object>(codec: C, patch: Partial<Values<C>>, search = ""): string {
  const query = new URLSearchParams(search);
  for (const [key, param] of Object.entries(codec as Record<string, Param<unknown>>)) {
    if (!Object.hasOwn(patch, key)) continue;
    const formatted = param.format((patch as Record<string, unknown>)[key]);
    if (formatted === null) query.delete(key);
    else query.set(key, formatted);
  }
  return query.toString();
}
