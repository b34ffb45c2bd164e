// The form of indexing: its fields, what an empty field means, and the specification it
// stands for. That of training is in ../../training.
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { IndexingSpecSchema } from "../../gen/featurescope/v1/jobs_pb.js";
import { textParams, type FormValues, type NumberField } from "../../forms/fields";

const u32 = 2 ** 32 - 1;
const whole = { whole: true, min: 1, max: u32 };

export const indexing_numbers: NumberField[] = [
  { name: "max_tokens", label: "Tokens", unset: "the whole corpus", ...whole, max: 1e15 },
  { name: "top_examples", label: "Strongest examples", hint: "Kept of each feature.", unset: "20", ...whole, max: 1000, advanced: true },
  { name: "bands", label: "Activation bands", unset: "10", ...whole, max: 100, advanced: true },
  { name: "examples_per_band", label: "Examples per band", unset: "5", ...whole, max: 100, advanced: true },
  { name: "window", label: "Window", hint: "Tokens on each side of the strongest.", unset: "32", ...whole, max: 1024, advanced: true },
  { name: "seed", label: "Seed", unset: "0", whole: true, min: 0, max: Number.MAX_SAFE_INTEGER, advanced: true },
];

export const indexingCodec = textParams(["sae_id", "sae", "corpus_id", "corpus", ...indexing_numbers.map((f) => f.name)]);

const number = (values: FormValues, name: string) => Number(values[name] || 0);
const big = (values: FormValues, name: string) => BigInt(number(values, name));

export function toIndexingSpec(values: FormValues): MessageInitShape<typeof IndexingSpecSchema> {
  return {
    saeId: values["sae_id"] ?? "",
    corpusId: values["corpus_id"] ?? "",
    maxTokens: big(values, "max_tokens"),
    topExamples: number(values, "top_examples"),
    bands: number(values, "bands"),
    examplesPerBand: number(values, "examples_per_band"),
    window: number(values, "window"),
    seed: big(values, "seed"),
  };
}
