import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { JobSchema, MetricPointSchema, type MetricPoint } from "../gen/featurescope/v1/jobs_pb.js";
import { SweepSpecSchema, TrainingSpecSchema } from "../gen/featurescope/v1/training_pb.js";
import { logTicksOf, paretoFront, ticksOf } from "./pareto";
import { aligned, commonRows, differences, latest, memberSpecs, mergeSpecs, metricNames, runsOf, shortNames, specTexts, valuesOf } from "./runs";

const point = (step: number, values: Record<string, number>): MetricPoint =>
  create(MetricPointSchema, { step: BigInt(step), tokens: BigInt(step * 10), values });
const sweep = create(SweepSpecSchema, {
  base: { modelId: "m", architecture: "topk", dSae: 64, clipNorm: 1 },
  members: [
    { saeId: "a", k: 8 },
    { saeId: "b", k: 16, clipNorm: 0 },
  ],
});
const sweep_job = create(JobSchema, { id: "S", spec: { case: "sweep", value: sweep } });
const single_job = create(JobSchema, { id: "T", spec: { case: "training", value: { saeId: "c", architecture: "topk", k: 32 } } });

describe("specifications of a sweep", () => {
  it("are the base with what each member sets, 0 where that is set", () => {
    expect(memberSpecs(sweep)).toMatchObject([
      { saeId: "a", modelId: "m", dSae: 64, k: 8, clipNorm: 1 },
      { saeId: "b", modelId: "m", dSae: 64, k: 16, clipNorm: 0 },
    ]);
    expect(sweep.base?.saeId).toBe("");
  });

  it("without members are the base", () => {
    expect(memberSpecs(create(SweepSpecSchema, { base: { saeId: "x" } }))).toMatchObject([{ saeId: "x" }]);
  });

  it("do not change what they are made of", () => {
    const base = create(TrainingSpecSchema, { groupSizes: [1n] });
    mergeSpecs(base, create(TrainingSpecSchema, { groupSizes: [2n, 3n], dSae: 5 }));
    expect(base).toMatchObject({ groupSizes: [1n], dSae: 0 });
  });
});

describe("runs", () => {
  const points = [point(1, { "a/l0": 8, "b/l0": 16, tokens_per_second: 5 }), point(2, { "a/l0": 9, "a/heldout_l0": 7, "b/l0": 17 })];
  const other = [point(1, { l0: 30 }), point(3, { l0: 32, loss: 1 })];
  const runs = runsOf([
    { job: sweep_job, points },
    { job: single_job, points: other },
  ]);

  it("are the members of a sweep and the SAE of a training, in order", () => {
    expect(runs.map(({ key, sae, index }) => [key, sae, index])).toEqual([
      ["S/a", "a", 0],
      ["S/b", "b", 1],
      ["T", "c", 2],
    ]);
    expect(runsOf([{ job: create(JobSchema, { id: "I", spec: { case: "indexing", value: {} } }), points }])).toEqual([]);
  });

  it("have the metrics of all, held-out ones under their pair's name", () => {
    expect([...metricNames(runs)].sort()).toEqual(["l0", "loss", "tokens_per_second"]);
    expect(valuesOf(runs[0]!, "heldout_l0")).toEqual([null, 7]);
    expect(valuesOf(runs[1]!, "tokens_per_second")).toEqual([5, null]);
  });

  it("end with the held-out value where there is one", () => {
    expect(latest(runs[0]!, "l0")).toEqual({ value: 7, isHeldOut: true });
    expect(latest(runs[1]!, "l0")).toEqual({ value: 17, isHeldOut: false });
    expect(latest(runs[2]!, "mse")).toBeUndefined();
  });

  it("of different jobs share an axis of tokens", () => {
    const curves = [runs[0]!, runs[2]!].map((run) => ({ run, values: valuesOf(run, "l0") }));
    expect(aligned(curves)).toEqual({ x: [10, 20, 30], ys: [[8, 9, null], [30, null, 32]] });
    expect(aligned(curves.slice(0, 1)).x).toEqual([10, 20]);
    expect(aligned([])).toEqual({ x: [], ys: [] });
  });

  it("tell in what they differ, but not by their ids", () => {
    expect(differences(runs.slice(0, 2))).toEqual([
      { name: "k", texts: ["8", "16"] },
      { name: "clip_norm", texts: ["1", "0"] },
    ]);
    expect(differences(runs).find(({ name }) => name === "d_sae")?.texts).toEqual(["64", "64", ""]);
  });

  it("do not differ where one says the default and the other nothing", () => {
    const defaults = create(TrainingSpecSchema, { clipNorm: 1, optimizer: "adam" });
    const said = runsOf([single_job, create(JobSchema, { id: "U", spec: { case: "training", value: { saeId: "d", architecture: "topk", k: 32, optimizer: "adam", clipNorm: 1 } } })].map((job) => ({ job, points: [] })));
    expect(differences(said, defaults)).toEqual([]);
    expect(differences(said).map(({ name }) => name)).toEqual(["clip_norm", "optimizer"]);
  });

  it("have in common what all set, with defaults marked", () => {
    const defaults = create(TrainingSpecSchema, { clipNorm: 1, optimizer: "adam" });
    expect(commonRows(memberSpecs(sweep), defaults).map(({ name, isDefault }) => [name, isDefault])).toEqual([
      ["model_id", false],
      ["architecture", false],
      ["d_sae", false],
    ]);
    expect(commonRows([create(TrainingSpecSchema, { optimizer: "adam", clipNorm: 2 })], defaults)).toEqual([
      { name: "clip_norm", text: "2", isDefault: false },
      { name: "optimizer", text: "adam", isDefault: true },
    ]);
  });

  it("have short names where all begin alike", () => {
    expect(shortNames(["demo-l2-k8", "demo-l2-k16"])).toEqual(["k8", "k16"]);
    expect(shortNames(["demo", "other"])).toEqual(["demo", "other"]);
    expect(shortNames(["demo-k8"])).toEqual(["demo-k8"]);
  });

  it("show mixtures and caches among what they set", () => {
    const spec = create(TrainingSpecSchema, { moreCorpora: [{ corpusId: "x", weight: 0.5 }, { corpusId: "y" }], activations: { cacheId: "acts" } });
    expect(specTexts(spec)).toEqual([
      ["more_corpora", "x:0.5, y"],
      ["activations", "acts"],
    ]);
  });
});

describe("a Pareto front", () => {
  const at = (x: number, y: number) => ({ x, y });

  it("has what no other point beats, from the left to the right", () => {
    const points = [at(32, 0.8), at(8, 0.5), at(16, 0.45), at(64, 0.79), at(64, 0.9)];
    expect(paretoFront(points)).toEqual([at(8, 0.5), at(32, 0.8), at(64, 0.9)]);
  });

  it("takes the better of two above each other, and one of two that are equal", () => {
    expect(paretoFront([at(8, 0.4), at(8, 0.6)])).toEqual([at(8, 0.6)]);
    expect(paretoFront([at(8, 0.6), at(8, 0.6)])).toHaveLength(1);
  });

  it("leaves out what is no number", () => {
    expect(paretoFront([at(NaN, 0.5), at(8, Infinity), at(9, 0.1)])).toEqual([at(9, 0.1)]);
    expect(paretoFront([])).toEqual([]);
  });

  it("has round ticks on its axes", () => {
    expect(ticksOf(0.12, 0.91, 5)).toEqual([0.2, 0.4, 0.6, 0.8]);
    expect(ticksOf(3, 3, 5)).toEqual([3]);
    expect(logTicksOf(7, 140)).toEqual([10, 20, 50, 100]);
    expect(logTicksOf(0, 10)).toEqual([]);
  });
});
