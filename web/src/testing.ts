// Small messages for the unit tests.
import { create } from "@bufbuild/protobuf";

import { TokenSchema, type Token } from "./gen/featurescope/v1/catalog_pb.js";
import { ExampleSchema, type Example } from "./gen/featurescope/v1/features_pb.js";

const utf8 = new TextEncoder();

export function makeToken(text: string, more: { id?: number; special?: boolean } = {}): Token {
  return create(TokenSchema, {
    id: more.id ?? text.length,
    text: utf8.encode(text),
    display: text.replaceAll("\n", "↵"),
    special: more.special ?? false,
  });
}

export function makeExample(words: string[], acts: number[], more: { position: number; start?: number; band?: number }): Example {
  return create(ExampleSchema, {
    band: more.band ?? 0,
    tokens: words.map((word) => makeToken(word)),
    acts,
    activation: Math.max(...acts),
    position: more.position,
    windowStart: more.start ?? 0,
    context: 3n,
  });
}
