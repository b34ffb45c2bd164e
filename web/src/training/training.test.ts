import { create, toJson } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { CorpusSchema, ModelSchema } from "../gen/featurescope/v1/catalog_pb.js";
import { PresetSchema, SweepSpecSchema, TrainingSpecSchema } from "../gen/featurescope/v1/training_pb.js";
import { decode, encode } from "../url/codec";
import { architectures, counts, familyOf } from "./architectures";
import { trainingCodec, trainingDefaults } from "./defaults";
import { choicesIn, fieldText, spec_fields, specField } from "./fields";
import { checkSpec, membersOf, toSweep, toTrainingSpec } from "./sweep";

const models = [create(ModelSchema, { id: "demo-lm", nLayers: 6, dModel: 256, hookNames: ["blocks.2.hook_resid_post", "blocks.2.hook_mlp_out", "blocks.2.hook_resid_mid"] })];
const corpora = [create(CorpusSchema, { id: "other", modelId: "x" }), create(CorpusSchema, { id: "demo-corpus", modelId: "demo-lm" })];
const filled = (typed: Record<string, string | undefined> = {}, preset = undefined as Parameters<typeof trainingDefaults>[3]) =>
  trainingDefaults(typed, models, corpora, preset);

describe("the contract's fields", () => {
  it("are all there but messages, in sections with their choices", () => {
    const messages = TrainingSpecSchema.fields.filter((f) => f.fieldKind === "message" || (f.fieldKind === "list" && f.listKind === "message"));
    expect(spec_fields.length).toBe(TrainingSpecSchema.fields.length - messages.length);
    expect(new Set(spec_fields.map((f) => f.group))).toEqual(
      new Set(["run", "optimiser", "loss", "initialisation and constraints", "topk family", "jumprelu", "gated", "dead features", "stream"]),
    );
    const free = spec_fields.filter((f) => f.kind === "text").map((f) => f.name);
    expect(free.sort()).toEqual(["corpus_id", "hook_name", "hook_name_out", "model_id", "preset", "sae_id"]);
    expect(specField("lr_schedule").choices).toEqual(["constant", "cosine", "sawtooth"]);
  });

  it("read choices from a comment only where it begins with them", () => {
    expect(choicesIn("all, middle, last: which tokens")).toEqual(["all", "middle", "last"]);
    expect(choicesIn("Steps, at most 1000.")).toEqual([]);
    expect(specField("positions")).toMatchObject({ choices: ["all", "middle", "last"], hint: "Which tokens of a context." });
    expect(specField("optimizer").hint).toBe("");
  });

  it("tell unset from 0 where the contract does", () => {
    const spec = create(TrainingSpecSchema, { clipNorm: 0, k: 0, tokens: 7n, warmupFromZero: false });
    expect(fieldText(spec, specField("clip_norm"))).toBe("0");
    expect(fieldText(spec, specField("k"))).toBe("");
    expect(fieldText(spec, specField("tokens"))).toBe("7");
    expect(fieldText(spec, specField("warmup_from_zero"))).toBe("no");
    expect(fieldText(spec, specField("scale_inputs"))).toBe("");
  });
});

describe("architectures", () => {
  it("each count what is theirs", () => {
    expect(architectures).toContain("jumprelu_skip_transcoder");
    expect(architectures.map(familyOf)).toEqual(["relu", "topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu", "relu", "topk", "topk", "jumprelu", "jumprelu"]);
    const of = (architecture: string) => ["k", "l1_coefficient", "target_l0", "group_sizes", "hook_name_out"].filter((n) => counts(specField(n), architecture));
    expect(of("topk")).toEqual(["k"]);
    expect(of("matryoshka_batchtopk")).toEqual(["k", "group_sizes"]);
    expect(of("jumprelu_transcoder")).toEqual(["target_l0", "hook_name_out"]);
    expect(of("gated")).toEqual(["l1_coefficient"]);
    expect(counts(specField("l1_coefficient"), "topk", "l1")).toBe(true);
  });
});

describe("a new form", () => {
  it("stands for a specification that can be submitted as it is", () => {
    const values = filled();
    expect(checkSpec(values)).toEqual({});
    expect(toTrainingSpec(values)).toMatchObject({ saeId: "demo-lm-l2-topk", corpusId: "demo-corpus", hookName: "blocks.2.hook_resid_post", dSae: 4096, k: 32, tokens: 2000000n });
  });

  it("takes its defaults from the preset, and asks only for what that leaves open", () => {
    const preset = create(PresetSchema, { name: "p", hookName: "blocks.5.hook_mlp_out", spec: { architecture: "standard", dSae: 1024, epochs: 12 } });
    expect(filled({ preset: "p" }, preset)).toMatchObject({ architecture: "standard", d_sae: "", tokens: "", k: "", hook_name: "blocks.2.hook_mlp_out" });
    expect(filled({ preset: "p", d_sae: "64" }, preset)).toMatchObject({ d_sae: "64" });
  });

  it("of a transcoder reads before the MLP and writes after it", () => {
    expect(filled({ architecture: "skip_transcoder" })).toMatchObject({ hook_name: "blocks.2.hook_resid_mid", hook_name_out: "blocks.2.hook_mlp_out" });
    expect(filled({ architecture: "topk" })["hook_name_out"]).toBeUndefined();
  });

  it("keeps a field that was emptied empty", () => {
    expect(filled({ k: "" })["k"]).toBe("");
  });

  it("is restored from its link, lists and presets included", () => {
    const typed = { preset: "gemma-scope", k: "16, 32", hook_name: "blocks.1.hook_resid_post,blocks.2.hook_resid_post", clip_norm: "0", more_corpora: "b:0.5" };
    const query = encode(trainingCodec, typed);
    expect(decode(trainingCodec, query)).toMatchObject(typed);
    expect(checkSpec(filled(decode(trainingCodec, query)))).toEqual({});
  });
});

describe("a specification", () => {
  it("leaves unset what was left empty, so that the server's defaults hold", () => {
    const spec = toTrainingSpec(filled({ clip_norm: "", lr_warmup_steps: "0", warmup_from_zero: "no" }));
    expect(spec.clipNorm).toBeUndefined();
    expect(spec.lrWarmupSteps).toBe(0);
    expect(spec.warmupFromZero).toBe(false);
    expect(spec.scaleInputs).toBeUndefined();
    expect(spec.batchSize).toBe(0);
  });

  it("leaves out what belongs to another architecture", () => {
    const spec = toTrainingSpec(filled({ architecture: "standard", k: "7", auxk_coefficient: "1", target_l0: "9", l1_coefficient: "2" }));
    expect(spec).toMatchObject({ k: 0, l1Coefficient: 2 });
    expect([spec.auxkCoefficient, spec.targetL0]).toEqual([undefined, undefined]);
  });

  it("has mixtures, caches and files", () => {
    expect(toTrainingSpec(filled({ more_corpora: "b:0.5, c" })).moreCorpora).toMatchObject([{ corpusId: "b", weight: 0.5 }, { corpusId: "c", weight: 0 }]);
    expect(toTrainingSpec(filled({ cache_id: "acts" })).activations).toMatchObject({ cacheId: "acts", channels: [] });
    expect(toTrainingSpec(filled({ cache_id: "acts", more_corpora: "b" }))).toMatchObject({ corpusId: "", moreCorpora: [], modelId: "demo-lm" });
    const raw = toTrainingSpec(filled({ raw_inputs: "/a\n /b \n", raw_targets: "/y", raw_dtype: "float32" })).activations;
    expect(raw?.channels).toMatchObject([{ paths: ["/a", "/b"], dtype: "float32" }, { paths: ["/y"], dtype: "float32" }]);
    expect(checkSpec(filled({ more_corpora: "b:x" }))["more_corpora"]).toContain("b:x");
  });

  it("explains a wrong number at its field", () => {
    const problem = (name: string, text: string) => checkSpec(filled({ [name]: text }))[name];
    expect(problem("k", "none")).toContain("not a number");
    expect(problem("k", "1.5")).toContain("not a whole number");
    expect(problem("k", "16, x")).toContain('"x" is not a number');
    expect(problem("k", "16, 16")).toContain("twice");
    expect(problem("d_sae", "-1")).toContain("less than 0");
    expect(problem("batch_size", "-1")).toBeUndefined();
    expect(problem("batch_size", "64, 128")).toContain("same stream");
    expect(problem("learning_rate", "1e-3")).toBeUndefined();
    expect(problem("sae_id", "Not An Id")).toBeDefined();
  });
});

describe("a sweep", () => {
  it("has all combinations of the lists, each with an id of its own", () => {
    const members = membersOf(filled({ k: "16, 32", d_sae: "1024,2048,4096" }));
    expect(members.map((m) => m.id)).toEqual([
      "demo-lm-l2-topk-d1024-k16",
      "demo-lm-l2-topk-d1024-k32",
      "demo-lm-l2-topk-d2048-k16",
      "demo-lm-l2-topk-d2048-k32",
      "demo-lm-l2-topk-d4096-k16",
      "demo-lm-l2-topk-d4096-k32",
    ]);
    expect(members[1]?.differs).toEqual([
      ["d_sae", "1024"],
      ["k", "32"],
    ]);
  });

  it("varies for each architecture what counts for it", () => {
    const members = membersOf(filled({ architecture: "topk,standard", k: "16, 32", l1_coefficient: "1,5", sae_id: "x" }));
    expect(members.map((m) => m.id)).toEqual(["x-topk-k16", "x-topk-k32", "x-standard-l1-1", "x-standard-l1-5"]);
  });

  it("says in the base what is common and in the members only what differs", () => {
    const sweep = toSweep(filled({ k: "16, 32", clip_norm: "0", sae_id: "x" }));
    expect(toJson(SweepSpecSchema, sweep)).toEqual({
      base: { modelId: "demo-lm", corpusId: "demo-corpus", hookName: "blocks.2.hook_resid_post", architecture: "topk", dSae: 4096, tokens: "2000000", clipNorm: 0 },
      members: [
        { saeId: "x-k16", k: 16 },
        { saeId: "x-k32", k: 32 },
      ],
    });
  });

  it("gives no member a field of another architecture", () => {
    const sweep = toSweep(filled({ architecture: "topk, standard", sae_id: "x", l1_coefficient: "3" }));
    expect(sweep.base).toMatchObject({ architecture: "", k: 0, l1Coefficient: 0 });
    expect(sweep.members).toMatchObject([
      { saeId: "x-topk", architecture: "topk", k: 32, l1Coefficient: 0 },
      { saeId: "x-standard", architecture: "standard", k: 0, l1Coefficient: 3 },
    ]);
  });

  it("of one is a single SAE", () => {
    const single = toSweep(filled());
    expect(single.members).toEqual([]);
    expect(single.base?.saeId).toBe("demo-lm-l2-topk");
  });

  it("tells layers apart by their numbers, and hook points by their names", () => {
    const ids = (hook_name: string) => membersOf(filled({ hook_name, sae_id: "x" })).map((m) => m.id);
    expect(ids("blocks.1.hook_resid_post, blocks.2.hook_resid_post")).toEqual(["x-l1", "x-l2"]);
    expect(ids("blocks.1.hook_resid_post, blocks.1.hook_mlp_out")).toEqual(["x-l1-resid-post", "x-l1-mlp-out"]);
  });

  it("that is too long is refused at once", () => {
    const list = Array.from({ length: 65 }, (_, i) => i + 1).join(",");
    expect(checkSpec(filled({ k: list }))["sae_id"]).toContain("more than 64");
    expect(checkSpec(filled({ k: list, d_sae: list, l1_coefficient: list }))["sae_id"]).toContain("more than 64");
  });
});
