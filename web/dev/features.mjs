// Mock of FeatureService: statistics and examples computed from the made-up world.
import { Code, ConnectError } from "@connectrpc/connect";

import { FeatureOrder, FeatureService, ListExamplesRequest_Kind } from "../src/gen/featurescope/v1/features_pb.js";
import { findSae } from "./catalog.mjs";
import { activation, contexts, corpus, d_sae, model, ownWord, random, sae, token, words } from "./world.mjs";

const n_tokens = 634112;
const n_bins = 50;

function buildFeature(feature) {
  const fired = contexts.flatMap((tokens, context) =>
    tokens.map((t, position) => ({ context, position, t, act: activation(feature, tokens, position) })).filter(({ act }) => act > 0),
  );
  fired.sort((a, b) => b.act - a.act);
  const acts = fired.map(({ act }) => act);
  const mean = acts.reduce((s, a) => s + a, 0) / (acts.length || 1);
  const moment = (p) => acts.reduce((s, a) => s + (a - mean) ** p, 0) / (acts.length || 1);
  const std = Math.sqrt(moment(2));
  const r = random(`s${feature}`);
  const density = acts.length === 0 ? 0 : feature % 97 === 0 ? 0.1 + 0.3 * r() : 10 ** (-4.5 + 3 * r());
  const stats = {
    feature, density, nActive: BigInt(Math.round(density * n_tokens)), mean, max: acts[0] ?? 0, std,
    skewness: std > 0 ? moment(3) / std ** 3 : 0, kurtosis: std > 0 ? moment(4) / std ** 4 - 3 : 0,
    p50: acts[Math.floor(acts.length * 0.5)] ?? 0, p90: acts[Math.floor(acts.length * 0.1)] ?? 0, p99: acts[0] ?? 0,
    decoderNorm: 0.9 + 0.2 * r(), topLogitToken: token(words[Math.floor(r() * words.length)]), topToken: fired[0]?.t,
  };
  return { stats, fired };
}

const features = Array.from({ length: d_sae }, (_, i) => buildFeature(i));
const isAlive = (i) => features[i].fired.length > 0;
const sort_keys = { [FeatureOrder.ORDER_FEATURE]: "feature", [FeatureOrder.ORDER_DENSITY]: "density", [FeatureOrder.ORDER_MAX]: "max", [FeatureOrder.ORDER_MEAN]: "mean", [FeatureOrder.ORDER_STD]: "std", [FeatureOrder.ORDER_SKEWNESS]: "skewness", [FeatureOrder.ORDER_KURTOSIS]: "kurtosis", [FeatureOrder.ORDER_DECODER_NORM]: "decoderNorm" };

export function maxOf(feature) {
  return features[feature].stats.max;
}

function checkIndex(index) {
  const found = findSae(index.saeId);
  const wanted = index.corpusId || found.indexedCorpora[0];
  if (!found.indexedCorpora.includes(wanted)) {
    throw new ConnectError(`no index for sae ${found.id} on corpus ${wanted ?? "any"}: run \`featurescope index --sae ${found.id} --corpus ${wanted ?? "CORPUS"}\``, Code.FailedPrecondition);
  }
}

function checkFeature(feature) {
  if (feature >= d_sae) throw new ConnectError(`feature ${feature} is out of range [0, ${d_sae})`, Code.InvalidArgument);
}

function listFeatures({ order, descending, filter, pageSize, pageToken }) {
  const f = filter ?? {};
  const within = (v, lo, hi) => (lo === undefined || v >= lo) && (hi === undefined || v <= hi);
  const key = sort_keys[order];
  const text = (f.tokenText ?? "").toLowerCase();
  const passing = features
    .map(({ stats }) => stats)
    .filter((s) => within(s.density, f.minDensity, f.maxDensity) && within(s.max, f.minMax, f.maxMax) && within(s.mean, f.minMean, f.maxMean))
    .filter((s) => !f.aliveOnly || s.nActive > 0n)
    .filter((s) => text === "" || [s.topToken, s.topLogitToken].some((t) => t?.display.toLowerCase().includes(text)))
    .sort((a, b) => (descending ? b[key] - a[key] : a[key] - b[key]) || a.feature - b.feature);
  const begin = Number(pageToken || 0);
  const size = pageSize || 50;
  const end = begin + size;
  return { features: passing.slice(begin, end), nextPageToken: end < passing.length ? String(end) : "", total: BigInt(passing.length) };
}

function histogram(feature) {
  const { stats, fired } = features[feature];
  if (fired.length === 0) return { edges: [], counts: [] };
  const low = Math.log(stats.max / 300);
  const high = Math.log(stats.max * 1.0001);
  const edges = Array.from({ length: n_bins + 1 }, (_, i) => Math.exp(low + ((high - low) * i) / n_bins));
  const r = random(`h${feature}`);
  const n = Number(stats.nActive);
  const peak = 18 + 22 * r();
  const counts = Array.from({ length: n_bins }, (_, i) => BigInt(Math.round((n / 14) * Math.exp(-(((i - peak) / 11) ** 2)) * (0.8 + 0.4 * r()) + (i > 44 ? 1 : 0))));
  return { edges, counts };
}

function logits(feature, sign) {
  const r = random(`l${feature}${sign}`);
  return Array.from({ length: 10 }, (_, i) => ({ token: token(i === 0 && sign > 0 ? features[feature].stats.topLogitToken.display : words[Math.floor(r() * words.length)]), effect: sign * (1.4 - 0.1 * i + 0.08 * r()) }));
}

function example({ context, position, act }, feature, band) {
  const begin = Math.max(0, position - 32);
  const tokens = contexts[context].slice(begin, position + 33);
  return { ...band, activation: act, context: BigInt(context * 17 + (feature % 11)), position, windowStart: begin, tokens, acts: tokens.map((_, i) => activation(feature, contexts[context], begin + i)) };
}

function listExamples({ feature, kind }) {
  const { stats, fired } = features[feature];
  if (kind === ListExamplesRequest_Kind.TOP) return { examples: fired.slice(0, 20).map((f) => example(f, feature, { band: 0 })) };
  const examples = [];
  for (let band = 1; band <= 10; band++) {
    const high = (stats.max * (11 - band)) / 10;
    const low = (stats.max * (10 - band)) / 10;
    const inside = fired.filter(({ act }) => act > low && act <= high);
    const about = { band, bandLow: low, bandHigh: high, bandShare: inside.length / fired.length };
    examples.push(...inside.slice(0, 5).map((f) => example(f, feature, about)));
  }
  return { examples };
}

function indexInfo() {
  const alive = features.filter((f) => f.fired.length > 0);
  const edges = Array.from({ length: 26 }, (_, i) => -5 + i * 0.2);
  const counts = edges.slice(1).map((_, i) => BigInt(alive.filter(({ stats }) => Math.floor((Math.log10(stats.density) + 5) / 0.2) === i).length));
  return {
    saeId: sae, corpusId: corpus, modelId: model, nTokens: BigInt(n_tokens), nContexts: 4954n, dSae: d_sae, nAlive: alive.length, nDead: d_sae - alive.length,
    nDense: alive.filter(({ stats }) => stats.density > 0.1).length, meanL0: 32, explainedVariance: 0.874, modelHash: "3f9a2c77d1e84b60", saeHash: "77d1e84b60a5127c",
    corpusHash: "a5127c0e9b4d63f8", dtype: "float32", seed: 0n, created: "2026-11-22T14:03:12Z", seconds: 84.2, log10Density: { edges, counts },
  };
}

export function addFeatures(router) {
  router.service(FeatureService, {
    listFeatures: (request) => (checkIndex(request.index), listFeatures(request)),
    getFeature: ({ index, feature }) => {
      checkIndex(index);
      checkFeature(feature);
      const alive = [...features.keys()].filter(isAlive);
      return { stats: features[feature].stats, activations: histogram(feature), topLogits: logits(feature, 1), bottomLogits: logits(feature, -1), nextAlive: alive.find((i) => i > feature), previousAlive: alive.findLast((i) => i < feature) };
    },
    listExamples: (request) => (checkIndex(request.index), checkFeature(request.feature), listExamples(request)),
    getIndexInfo: ({ index }) => (checkIndex(index), indexInfo()),
  });
}
