import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { JobSchema, MetricPointSchema } from "../../gen/featurescope/v1/jobs_pb.js";
import { runsOf } from "../../training/runs";
import { ruleText } from "./AdviceCard";
import { curvesOf, shownMetrics } from "./CurveGrid";
import { dotsOf } from "./ParetoCard";

const point = (step: number, values: Record<string, number>) => create(MetricPointSchema, { step: BigInt(step), tokens: BigInt(step), values });
const single = create(JobSchema, { id: "T", spec: { case: "training", value: { saeId: "c" } } });
const sweep = create(JobSchema, { id: "S", spec: { case: "sweep", value: { members: [{ saeId: "a-1" }, { saeId: "a-2" }] } } });
const single_runs = runsOf([{ job: single, points: [point(1, { l0: 8, loss: 2 }), point(2, { l0: 9, heldout_l0: 7, explained_variance: 0.5 })] }]);
const sweep_runs = runsOf([{ job: sweep, points: [point(1, { "a-1/l0": 8, "a-2/l0": 16, "a-2/heldout_l0": 15, "a-2/explained_variance": 0.4 })] }]);

describe("curves", () => {
  it("of one run are a pair in two colours", () => {
    const { x, curves } = curvesOf(single_runs, "l0", true);
    expect(x).toEqual([1, 2]);
    expect(curves).toMatchObject([
      { label: "trained on", colour: "--series-1", dash: [], y: [8, 9] },
      { label: "held out", colour: "--series-2", y: [null, 7] },
    ]);
    expect(curves[1]?.dash.length).toBeGreaterThan(0);
  });

  it("of several runs have a run's colour, dashed where held out", () => {
    const { curves } = curvesOf(sweep_runs, "l0", false);
    expect(curves.map(({ label, colour, tip }) => [label, colour, tip])).toEqual([
      ["a-1", "--series-1", "1"],
      ["a-2", "--series-2", "2"],
      ["a-2, held out", "--series-2", "2, held out"],
    ]);
    expect(curves[2]?.dash).not.toEqual(curves[1]?.dash);
  });

  it("leave out what was never measured", () => {
    expect(curvesOf(single_runs, "loss", true).curves.map(({ label }) => label)).toEqual(["trained on"]);
    expect(curvesOf([], "loss", false)).toEqual({ x: [], curves: [] });
  });

  it("come in an order, unknown metrics last", () => {
    expect(shownMetrics(new Set(["zeta", "l0", "alpha", "loss"]))).toEqual(["loss", "l0", "alpha", "zeta"]);
  });
});

describe("points of the front", () => {
  it("are runs with both numbers, held-out where there are such, and lead to SAEs that exist", () => {
    const dots = dotsOf(sweep_runs, new Set(["a-2"]));
    expect(dots).toMatchObject([{ key: "S/a-2", label: "2", name: "a-2", x: 15, y: 0.4, index: 1, href: "/sae/a-2" }]);
    expect(dotsOf(sweep_runs, new Set())[0]?.href).toBeUndefined();
  });
});

describe("a rule's name", () => {
  it("is a phrase", () => {
    expect([ruleText("l0_high"), ruleText("dead_features")]).toEqual(["L0 high", "Dead features"]);
  });
});
