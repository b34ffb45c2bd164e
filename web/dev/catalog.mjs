// Mock of CatalogService: one model, three SAEs (one not indexed), one corpus.
import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

import { CatalogService } from "../src/gen/featurescope/v1/catalog_pb.js";
import { corpus, d_sae, model, sae } from "./world.mjs";

const hex = "3f9a2c77d1e84b60a5127c0e9b4d63f81c2a5e7790b3d4f6a8c1e2d3b4a59687";
const hook_names = [0, 1, 2, 3, 4, 5].flatMap((l) =>
  ["hook_resid_pre", "attn.hook_z", "hook_attn_out", "hook_resid_mid", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"].map((h) => `blocks.${l}.${h}`),
);
const models = [
  { id: model, architecture: "gpt2", nLayers: 6, dModel: 256, nHeads: 8, dHead: 32, dMlp: 1024, dVocab: 8192, nCtx: 256, nParameters: 6901760n, hasTokenizer: true, prependBos: true, loaded: true, hash: hex, hookNames: hook_names, path: "models/demo-lm", dtype: "float32", tokenizer: "tokenizer.json", hasChatTemplate: true, source: "/srv/models/demo-lm", warnings: ["a warning of the mock"] },
];
const base = { modelId: model, dIn: 256, hash: hex, format: "SAELens 6", contextSize: 128, prependBos: true, normalizeActivations: "none", activation: "the 32 largest of a token", fileDtype: "float32", trainedOn: "demo-lm", source: "job 01JDEMO1", prependBosKnown: true, warnings: [], folds: [], notes: [] };
const saes = [
  { ...base, id: sae, hookName: "blocks.2.hook_resid_post", architecture: "topk", dSae: d_sae, k: 32, indexedCorpora: [corpus], trainingJobId: "01JDEMO1" },
  { ...base, id: "demo-standard-l4", hookName: "blocks.4.hook_resid_post", architecture: "standard", dSae: 4096, indexedCorpora: [], activation: "ReLU", format: "dictionary_learning", fileDtype: "float16", folds: ["input scale 0.37"], warnings: ['the SAE was trained on a model called "gpt2-small"; make sure that "demo-lm" is the same'] },
  { ...base, id: "wide-vectors", hookName: "blocks.4.hook_mlp_out", architecture: "topk", dSae: 2048, k: 16, dIn: 512, vectorsOnly: true, indexedCorpora: [] },
];
const corpora = [
  { id: corpus, modelId: model, contextSize: 128, nTokens: 634112n, nDocuments: 3000n, nContexts: 4954n, prependBos: true, layout: "packed", formats: ["csv.gz", "jsonl"], nHeldoutTokens: 31744n, nHeldoutContexts: 248n, hash: hex.split("").reverse().join(""), tokenizerHash: hex },
];

export function findSae(id) {
  const found = saes.find((s) => s.id === id);
  if (!found) throw new ConnectError(`there is no SAE "${id}"; there are: ${saes.map((s) => s.id).join(", ")}`, Code.NotFound);
  return found;
}

export function addCatalog(router) {
  router.service(CatalogService, {
    listModels: () => ({ models }),
    listSaes: () => ({ saes }),
    getSae: ({ saeId }) => findSae(saeId),
    listCorpora: () => ({ corpora }),
    listSaeReleases: () => ({ releases: [{ name: "gpt2-small-res-jb", repo: "jbloom/GPT2-Small-SAEs-Reformatted", model: "openai-community/gpt2", exampleId: "blocks.8.hook_resid_pre", centerWritingWeights: true, note: "GPT-2 small, residual stream" }] }),
    addModel: ({ modelId, path }) => {
      const added = { ...models[0], id: modelId, source: path, warnings: [] };
      models.push(added);
      return added;
    },
    addSae: ({ saeId, modelId, hookName }) => {
      if (hookName === "") throw new ConnectError("the files do not say at which hook point the SAE reads; give it with --hook", Code.InvalidArgument);
      const added = { ...saes[1], id: saeId, modelId: modelId || model, hookName };
      saes.push(added);
      return added;
    },
    async *addCorpus({ corpusId, modelId }) {
      for (let i = 1; i <= 8; i++) {
        await sleep(250);
        yield { bytesRead: BigInt(i * 1000), bytesTotal: 8000n, nTokens: BigInt(i * 12000), tokensPerSecond: 48000 };
      }
      const added = { ...corpora[0], id: corpusId, modelId };
      corpora.push(added);
      yield { bytesRead: 8000n, bytesTotal: 8000n, nTokens: 96000n, corpus: added };
    },
    getServerInfo: () => ({
      version: "0.1.0",
      device: "cpu",
      blas: "OpenBLAS 0.3.21",
      cpuCapability: "AVX512",
      threads: 2,
      libtorchVersion: "1.13.1",
      sqliteVersion: "3.40.1",
      grpcVersion: "1.51.1",
      memoryUsedBytes: 412_000_000n,
      memoryBudgetBytes: 8_589_934_592n,
      uptimeSeconds: BigInt(Math.round(process.uptime())),
      queueDepth: 0,
      queueLimit: 256,
      maxMessageBytes: 16_777_216n,
      dtype: "float32",
      hubEndpoint: "https://huggingface.co",
      warnings: ["this is the mock server: all numbers are made up"],
    }),
  });
}
