// The made-up world of the mock server: texts, tokens, and features that fire on words.
import { create } from "@bufbuild/protobuf";

import { TokenSchema } from "../src/gen/featurescope/v1/catalog_pb.js";

export const d_sae = 1024;
export const model = "demo-lm";
export const sae = "demo-topk";
export const corpus = "demo-corpus";

const texts = [
  "The king went down to the harbour, and the old sailors said that no ship had come in from the north.\nHe waited until the evening; then he walked home without a word.",
  "“You are very late, my dear Watson,” said Holmes, and he put down his violin. “I have been expecting you since four o'clock.”",
  "def forward(self, x: Tensor) -> Tensor:\n    \"\"\"Runs the block.\n\n    Returns the residual stream after the MLP.\n    \"\"\"\n    return x + self.mlp(self.ln_2(x))",
  "The people of the United States have entrusted me with this office, and I shall keep the peace of the nation and its laws.",
  "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo de los de lanza en astillero.",
  "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, I thought I would sail about a little and see the watery part of the world.",
  "Natalia sold 48 clips in April, and then she sold half as many clips in May. 48 / 2 = 24 clips. She sold 48 + 24 = 72 clips altogether.",
  "let mut v: Vec<i32> = Vec::new();\nfor i in 0..10 {\n    v.push(i * 2);\n}\nprintln!(\"{:?}\", v);",
  "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
  "The Martians seem to have calculated their descent with amazing subtlety; their mathematical learning is evidently far in excess of ours.",
  "Im Anfang schuf Gott Himmel und Erde. Und die Erde war wüst und leer, und es war finster auf der Tiefe.",
  "The station was opened in 1887 by the Great Northern Railway, and closed to passengers in 1955 . It was designed by the architect Thomas Hine .",
];

const bos = create(TokenSchema, { id: 0, text: new TextEncoder().encode("<|endoftext|>"), display: "<|endoftext|>", special: true });

function hash(text) {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.codePointAt(0), 16777619);
  return h >>> 0;
}

export function random(seed) {
  let s = hash(String(seed)) || 1;
  return () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 2 ** 32;
  };
}

export function token(text) {
  return create(TokenSchema, {
    id: 1 + (hash(text) % 8191),
    text: new TextEncoder().encode(text),
    display: text.replaceAll("\n", "↵").replaceAll("\t", "⇥"),
  });
}

export function tokenize(text) {
  const pieces = text.match(/\n| ?[\p{L}]{1,7}|[\p{L}]+| ?\d{1,3}| ?[^\s\p{L}\d]+| +/gu) ?? [];
  return [bos, ...pieces.map(token)];
}

export const contexts = texts.map(tokenize);
export const words = [...new Set(contexts.flat().filter((t) => !t.special && /\p{L}{2}/u.test(t.display)).map((t) => t.display))];

// A feature fires on a few words, and a little on what follows them. Every 19th never fires; every 97th is dense.
export function activation(feature, tokens, i) {
  if (feature % 19 === 18 || tokens[i].special) return 0;
  const r = random(`f${feature}`);
  const own = [0, 1, 2].map(() => words[Math.floor(r() * words.length)]);
  const scale = 1 + 9 * r();
  const at = (j) => (j >= 0 && own.includes(tokens[j].display) ? 1 : 0);
  const jitter = 0.55 + 0.45 * random(`${feature}:${tokens[i].id}:${i}`)();
  const dense = feature % 97 === 0 && tokens[i].id % 3 === 0 ? 0.3 : 0;
  const value = at(i) + 0.45 * at(i - 1) + 0.2 * at(i - 2) + dense;
  return value * scale * jitter;
}

export function ownWord(feature) {
  return words[Math.floor(random(`f${feature}`)() * words.length)];
}
