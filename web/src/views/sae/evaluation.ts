// The form of an evaluation, and its numbers in groups.
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { Evaluation, EvaluationSpecSchema, MetricDefinition } from "../../gen/featurescope/v1/evaluation_pb.js";
import { formatNumber, formatShare } from "../../lib/format";

export interface EvaluationValues {
  corpus: string;
  part: string;
  tokens: string;
  ablations: boolean;
  special: boolean;
}

export const first_values: Omit<EvaluationValues, "corpus"> = { part: "", tokens: "", ablations: true, special: false };

export function checkTokens(text: string): string | undefined {
  if (text.trim() === "") return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value)) return "not a whole number";
  return value < 1 || value > 1e12 ? "from 1 to 1e12" : undefined;
}

export function toEvaluationSpec(sae: string, values: EvaluationValues): MessageInitShape<typeof EvaluationSpecSchema> {
  return {
    saeId: sae,
    corpusId: values.corpus,
    part: values.part,
    maxTokens: BigInt(Number(values.tokens || 0)),
    noAblations: !values.ablations,
    specialTokens: values.special,
  };
}

// What an evaluation is judged by first.
export const main_metrics = ["explained_variance", "l0", "ce_loss_recovered", "kl_score", "dead_share"];

const groups: [string, string[]][] = [
  ["Reconstruction", ["mse", "fvu", "explained_variance", "explained_variance_legacy", "cosine_similarity", "l2_ratio", "reconstruction_bias"]],
  ["Sparsity", ["l0", "l1", "dead_share", "dense_share"]],
  ["Predictions of the model", ["ce_clean", "ce_sae", "ce_increase", "ce_increase_error", "ce_zero", "ce_mean", "ce_loss_recovered", "ce_loss_recovered_mean", "kl_sae", "kl_zero", "kl_score"]],
];

export interface MetricRow {
  name: string;
  value: number;
  definition: MetricDefinition | undefined;
}

// The numbers that were measured; those that no group names come last.
export function metricGroups(evaluation: Evaluation, definitions: readonly MetricDefinition[]): [string, MetricRow[]][] {
  const known = new Set(groups.flatMap(([, names]) => names));
  const others = Object.keys(evaluation.metrics).filter((name) => !known.has(name));
  const rows = (names: readonly string[]): MetricRow[] =>
    names.flatMap((name) => {
      const value = evaluation.metrics[name];
      return value === undefined ? [] : [{ name, value, definition: definitions.find((d) => d.name === name) }];
    });
  return [...groups, ["Others", others] as [string, string[]]]
    .map(([title, names]): [string, MetricRow[]] => [title, rows(names)])
    .filter(([, found]) => found.length > 0);
}

export function metricText(name: string, value: number | undefined): string {
  if (value === undefined) return "–";
  return name.endsWith("_share") ? formatShare(value) : formatNumber(value, 4);
}

// "ce_loss_recovered" is "CE loss recovered".
export function metricLabel(name: string): string {
  const text = name
    .replaceAll("_", " ")
    .replace(/\b(ce|kl|mse|fvu|sae)\b/g, (word) => word.toUpperCase())
    .replace(/\bl(\d)\b/g, "L$1");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
