import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { EvaluationSchema, MetricDefinitionSchema } from "../../gen/featurescope/v1/evaluation_pb.js";
import { logTicks, place, toBins, trimmed } from "../../charts/bins";
import { checkTokens, first_values, metricGroups, metricLabel, metricText, toEvaluationSpec } from "./evaluation";

describe("an evaluation", () => {
  const evaluation = create(EvaluationSchema, { metrics: { l0: 31.41, ce_sae: 3.5, dead_share: 0.021, new_one: 1 } });

  it("groups what was measured, each with its definition, and loses nothing", () => {
    const groups = metricGroups(evaluation, [create(MetricDefinitionSchema, { name: "l0", formula: "f", meaning: "m" })]);
    expect(groups.map(([title, rows]) => [title, rows.map((row) => row.name)])).toEqual([
      ["Sparsity", ["l0", "dead_share"]],
      ["Predictions of the model", ["ce_sae"]],
      ["Others", ["new_one"]],
    ]);
    expect(groups[0]?.[1][0]?.definition?.formula).toBe("f");
  });

  it("is told in words and numbers", () => {
    expect(metricLabel("ce_loss_recovered")).toBe("CE loss recovered");
    expect(metricLabel("l2_ratio")).toBe("L2 ratio");
    expect(metricText("dead_share", 0.021).replaceAll("\u202f", " ")).toBe("2.1 %");
    expect(metricText("l0", undefined)).toBe("–");
  });

  it("is asked for with what was typed, the rest left to the server", () => {
    expect(toEvaluationSpec("s", { ...first_values, corpus: "c" })).toEqual({ saeId: "s", corpusId: "c", part: "", maxTokens: 0n, noAblations: false, specialTokens: false });
    expect(toEvaluationSpec("s", { ...first_values, corpus: "c", tokens: "4096", ablations: false })).toMatchObject({ maxTokens: 4096n, noAblations: true });
    expect(checkTokens("")).toBeUndefined();
    expect(checkTokens("1.5")).toBe("not a whole number");
    expect(checkTokens("0")).toContain("from 1");
  });
});

describe("a histogram that begins with 0", () => {
  const bins = trimmed(toBins({ edges: [0, 1, 2, 4, 8], counts: [1n, 2n, 3n, 0n] }));

  it("has ticks where logarithms are", () => {
    expect(bins).toHaveLength(3);
    expect(logTicks(bins).map((tick) => tick.value)).toEqual([1, 2, 3]);
    expect(place(bins, 0.5, Math.log)).toBe(0);
  });
});
