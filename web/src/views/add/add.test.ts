import { describe, expect, it } from "vitest";

import { idFrom } from "../../forms/fields";
import { checkCorpus, checkModel, checkSae, completeCorpus, completeModel, completeSae, toAddCorpus, toAddSae, toModelImport, toSaeImport } from "./add";

describe("ids made from names", () => {
  it("are ids that the server accepts, without what stands around a name", () => {
    expect(idFrom("openai-community/GPT2-XL@main")).toBe("gpt2-xl");
    expect(idFrom("/models/Llama 3.1 8B/")).toBe("llama-3.1-8b");
    expect(idFrom("--x")).toBe("x");
    expect(idFrom("a".repeat(80))).toHaveLength(64);
  });
});

describe("the model form", () => {
  it("asks for a path or a repository, whichever it is about", () => {
    expect(Object.keys(checkModel(completeModel({})))).toEqual(["model_id", "path"]);
    expect(Object.keys(checkModel(completeModel({ from: "hub" })))).toEqual(["model_id", "repo"]);
    expect(checkModel(completeModel({ from: "hub", repo: "openai-community/gpt2" }))).toEqual({});
  });

  it("takes the id from the name until one is typed", () => {
    expect(completeModel({ path: "/models/gpt2" })["model_id"]).toBe("gpt2");
    expect(completeModel({ path: "/models/gpt2", model_id: "mine" })["model_id"]).toBe("mine");
    expect(completeModel({ path: "/models/gpt2", model_id: "" })["model_id"]).toBe("");
  });

  it("sends patterns one a line", () => {
    const spec = toModelImport(completeModel({ from: "hub", repo: " org/name ", revision: "v2", include: "*.json\n\n *.safetensors " }));
    expect(spec.what).toMatchObject({ case: "model", value: { repo: "org/name", revision: "v2", include: ["*.json", "*.safetensors"], modelId: "name" } });
  });
});

describe("the SAE form", () => {
  it("leaves open what was left open", () => {
    const request = toAddSae(completeSae({ path: "/saes/l8", model_id: "gpt2" }));
    expect(request).toMatchObject({ saeId: "l8", path: "/saes/l8", modelId: "gpt2", hookName: "", anyWidth: false });
    expect(request.centerWritingWeights).toBeUndefined();
    expect(Object.values(request.overrides ?? {}).filter((v) => v !== undefined)).toEqual([]);
  });

  it("sends what was chosen in place of what the files say", () => {
    const request = toAddSae(
      completeSae({
        path: "/x",
        center_writing_weights: "no",
        apply_b_dec_to_input: "yes",
        normalize_activations: "layer_norm",
        norm_scaling_factor: "0.37",
        selection: "threshold",
        threshold: "0.5",
        k: "32",
        hook_name_out: "blocks.1.hook_mlp_out",
        any_width: "1",
      }),
    );
    expect(request).toMatchObject({
      anyWidth: true,
      centerWritingWeights: false,
      overrides: { applyBDecToInput: true, normalizeActivations: "layer_norm", normScalingFactor: 0.37, selection: "threshold", threshold: 0.5, k: 32, hookNameOut: "blocks.1.hook_mlp_out" },
    });
  });

  it("names a pulled SAE after release and id", () => {
    const values = completeSae({ from: "hub", source: "gpt2-small-res-jb/blocks.8.hook_resid_pre" });
    expect(values["sae_id"]).toBe("gpt2-small-res-jb-blocks.8.hook_resid_pre");
    expect(checkSae(values)).toEqual({});
    expect(toSaeImport(values).what).toMatchObject({ case: "sae", value: { source: "gpt2-small-res-jb/blocks.8.hook_resid_pre" } });
  });

  it("finds wrong numbers only among the fields that are shown", () => {
    expect(checkSae(completeSae({ path: "/x", norm_scaling_factor: "-1" }))).toHaveProperty("norm_scaling_factor");
    expect(checkSae(completeSae({ from: "hub", source: "a/b/c", norm_scaling_factor: "-1" }))).toEqual({});
  });
});

describe("the corpus form", () => {
  it("sends paths one a line, and names the corpus after the first", () => {
    const values = completeCorpus({ paths: " /data/Web.jsonl.gz \n\n/data/more" }, "gpt2");
    expect(values["corpus_id"]).toBe("web");
    expect(toAddCorpus(values)).toMatchObject({ corpusId: "web", paths: ["/data/Web.jsonl.gz", "/data/more"], modelId: "gpt2", layout: "packed", contextSize: 0, heldoutFraction: 0 });
  });

  it("explains a share that is none", () => {
    expect(checkCorpus(completeCorpus({ paths: "/x", heldout_fraction: "0.9" }, "m"))).toHaveProperty("heldout_fraction");
    expect(checkCorpus(completeCorpus({}, "m"))).toHaveProperty("paths");
  });
});
