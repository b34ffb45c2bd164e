// Mock of ExploreService: activations of own text, and a generation that repeats the feature's words when steered.
import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

import { Branch, ExploreService, Operation } from "../src/gen/featurescope/v1/explore_pb.js";
import { maxOf } from "./features.mjs";
import { activation, d_sae, ownWord, random, token, tokenize, words } from "./world.mjs";

const decoder = new TextDecoder();

function csr(rows) {
  const row_offsets = [0];
  for (const row of rows) row_offsets.push(row_offsets.at(-1) + row.length);
  return { rowOffsets: row_offsets, indices: rows.flat().map(([f]) => f), values: rows.flat().map(([, v]) => v), nCols: d_sae };
}

function compute({ inputs, saeIds, selection }) {
  const tokens = tokenize(decoder.decode(inputs[0].input.value));
  if (tokens.length > 256) throw new ConnectError(`the text has ${tokens.length} tokens; demo-lm takes at most 256`, Code.InvalidArgument);
  const wanted = selection.case === "features" ? selection.value.ids : [...Array(d_sae).keys()];
  let rows = tokens.map((_, i) => wanted.map((f) => [f, activation(f, tokens, i)]).filter(([, v]) => v > 0));
  let top = [];
  if (selection.case === "topKPerToken") rows = rows.map((row) => row.sort((a, b) => b[1] - a[1]).slice(0, selection.value).sort((a, b) => a[0] - b[0]));
  if (selection.case === "topOverText") {
    const best = new Map();
    for (const [f, v] of rows.flat()) best.set(f, selection.value.score === 0 ? Math.max(best.get(f) ?? 0, v) : (best.get(f) ?? 0) + v);
    top = [...best].sort((a, b) => b[1] - a[1]).slice(0, selection.value.k);
    if (selection.value.score === 1) top = top.map(([f, v]) => [f, v / tokens.length]);
    const keep = new Set(top.map(([f]) => f));
    rows = rows.map((row) => row.filter(([f]) => keep.has(f)));
  }
  const saes = saeIds.map((saeId) => ({ saeId, acts: csr(rows), topFeatures: top.map(([f]) => f), topScores: top.map(([, v]) => v), l0: 32, explainedVariance: 0.861 }));
  return { texts: [{ tokens, saes }] };
}

function* likely(seed, feature, steered) {
  const r = random(seed);
  for (;;) {
    const word = steered && r() < 0.5 ? ownWord(feature) : words[Math.floor(r() * words.length)];
    yield { token: token(word), logprob: -0.2 - 3 * r(), topLogprobs: [0, 1, 2, 3, 4].map((i) => ({ token: token(i === 0 ? word : words[Math.floor(r() * words.length)]), logprob: -0.4 - i * 0.9 })) };
  }
}

async function* generate(request, context) {
  const [edit] = request.interventions;
  const text = request.messages.length > 0 ? request.messages.map((m) => `${m.role}: ${m.content}\n`).join("") : decoder.decode(request.prompt.input.value);
  const prompt = tokenize(text);
  const n = request.maxNewTokens || 64;
  yield { event: { case: "started", value: { prompt } } };
  const seed = `${request.sampling.seed}${request.sampling.temperature}`;
  const base = likely(seed, edit.feature, false);
  const steered = likely(`${seed}s`, edit.feature, true);
  for (let i = 0; i < n; i++) {
    await sleep(25);
    if (context.signal.aborted) return;
    const plain = base.next().value;
    yield { event: { case: "token", value: { branch: Branch.STEERED, ...(i < 2 ? plain : steered.next().value) } } };
    yield { event: { case: "token", value: { branch: Branch.BASELINE, ...plain } } };
  }
  const positions = [...Array(prompt.length + n - 1).keys()].map((i) => i + 1);
  const r = random(seed);
  const before = positions.map(() => (r() < 0.1 ? 2 * r() : 0));
  const after = before.map((b) => (edit.operation === Operation.ABLATE_ZERO ? 0 : edit.operation === Operation.SCALE ? b * edit.value : b + edit.value * maxOf(edit.feature)));
  yield { event: { case: "finished", value: { branch: Branch.STEERED, proofs: [{ saeId: edit.saeId, feature: edit.feature, positions, activationBefore: before, activationAfter: after, relativeChange: positions.map(() => 0.2 + 0.3 * r()) }] } } };
  yield { event: { case: "finished", value: { branch: Branch.BASELINE } } };
}

export function addExplore(router) {
  router.service(ExploreService, {
    computeActivations: async (request) => {
      await sleep(60);
      return compute(request);
    },
    checkSae: async () => {
      await sleep(400);
      return {
        verdict: 3,
        asBound: { explainedVariance: 0.12, l0: 812, normRatio: 2.4, cosine: 0.41 },
        better: [{ change: "another hook point: add it again with --hook blocks.3.hook_resid_post", explainedVariance: 0.83, l0: 31, normRatio: 0.98, cosine: 0.93 }],
        findings: ["explained variance is 0.12; SAEs that are read as they were trained have at least 0.5, most 0.7 to 0.99", "likely cause: explained variance rises from 0.12 to 0.83 with another hook point: add it again with --hook blocks.3.hook_resid_post"],
        nTokens: 512n,
        nTried: 17,
      };
    },
    generate,
  });
}
