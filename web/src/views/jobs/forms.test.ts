import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { CorpusSchema, ModelSchema } from "../../gen/featurescope/v1/catalog_pb.js";
import { checkId, checkNumber, checkNumbers, newKey } from "../../forms/fields";
import { shownFields, toIndexingSpec, toTrainingSpec, training_numbers, trainingDefaults } from "./forms";

const model = create(ModelSchema, { id: "demo-lm", nLayers: 6, dModel: 256 });
const corpora = [create(CorpusSchema, { id: "other", modelId: "x" }), create(CorpusSchema, { id: "demo-corpus", modelId: "demo-lm" })];

describe("job forms", () => {
  it("begin with a specification that can be submitted as it is", () => {
    const values = trainingDefaults(model, corpora, {});
    expect(checkNumbers(shownFields(training_numbers, "topk"), values)).toEqual({});
    expect(checkId(values["sae_id"] ?? "")).toBeUndefined();
    expect(toTrainingSpec(values)).toMatchObject({ corpusId: "demo-corpus", hookName: "blocks.2.hook_resid_post", dSae: 4096, k: 32, tokens: 2000000n });
  });

  it("keep a field that was emptied empty", () => {
    expect(trainingDefaults(model, corpora, { k: "" })["k"]).toBe("");
  });

  it("send unset what was left empty, so that the server's defaults hold", () => {
    const spec = toTrainingSpec(trainingDefaults(model, corpora, { clip_norm: "", lr_warmup_steps: "0" }));
    expect(spec.clipNorm).toBeUndefined();
    expect(spec.lrWarmupSteps).toBe(0);
    expect(spec.batchSize).toBe(0);
    expect(toIndexingSpec({ sae_id: "s", corpus_id: "c" })).toMatchObject({ maxTokens: 0n, bands: 0 });
  });

  it("leave out what belongs to the other architecture", () => {
    const values = trainingDefaults(model, corpora, { architecture: "standard", k: "7", auxk_coefficient: "1", l1_coefficient: "2" });
    expect(toTrainingSpec(values)).toMatchObject({ k: 0, auxkCoefficient: undefined, l1Coefficient: 2 });
    expect(shownFields(training_numbers, "standard").map((f) => f.name)).not.toContain("k");
  });

  it("explain a wrong number at its field", () => {
    const k = training_numbers.find((f) => f.name === "k");
    if (k === undefined) throw new Error("no field k");
    expect(checkNumber(k, "")).toBe("a number is needed");
    expect(checkNumber(k, "x")).toBe("not a number");
    expect(checkNumber(k, "1.5")).toBe("not a whole number");
    expect(checkNumber(k, "0")).toContain("from 1 to");
    expect(checkNumber(k, "32")).toBeUndefined();
  });

  it("accept the ids that the server accepts", () => {
    expect(checkId("demo-lm.v2_x")).toBeUndefined();
    for (const wrong of ["", "Demo", "-a", "a b", "ä", "a".repeat(65)]) expect(checkId(wrong)).toBeDefined();
  });

  it("make a new key each time", () => {
    expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
    expect(newKey()).not.toBe(newKey());
  });
});
