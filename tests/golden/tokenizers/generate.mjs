// Makes the files beside it: small tokenizers of every kind that tokenizer.json can describe, texts
// that are hard on them, and the ids that huggingface/tokenizers gives.
//   npm install tokenizers@0.23.2 && node generate.mjs [DIRECTORY WITH neox/tokenizer.json]
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(process.cwd() + '/');
const { Tokenizer } = require('tokenizers');
const here = path.dirname(fileURLToPath(import.meta.url));

// Deterministic: the same numbers on every machine.
let seed = 1;
const random = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return Math.floor((seed / 0x80000000) * n);
};
const pick = (list) => list[random(list.length)];

const sample =
  'The quick brown fox jumps over the lazy dog. I\'ll say it isn\'t so, we\'ve seen 12345 of them! ' +
  'Привет, мир: здравствуй. 中文句子在这里。日本語のテキスト、カタカナ。 Größe naïve café résumé ' +
  'for (int i = 0; i < 10; ++i) {\n\tprintf("%d\\n", i);\n}\n\n  indented   text  here\n' +
  'YOU\'RE HERE, DON\'T GO. x² + y² = ½ ÷ 3.14 – “quoted” … naïve cafés 한국어 문장 العربية हिन्दी 🦙🎉';
const parts = [
  ' ', '  ', '   ', '      ', '\n', '\n\n', '\r\n', '\t', ' \n ', '\u00a0', '\u3000', '\u2028', '\u0085', '\u200b',
  '\u180e', 'the', ' the', 'The', 'fox', ' jumps', 'over', "'s", "'S", "'ll", "'LL", "'re", "'ſ", "'", "''",
  'don\'t', 'é', 'e\u0301', 'ﬁ', 'Ⅳ', '²', '½', '٣', '①', '1', '12', '1234567', '3.14', '中文', '日本', 'カタ', '\u9fa6',
  'Привет', 'мир', 'Größe', 'İ', 'ǅ', 'Σς', '한국', '\u1112\u1161\u11ab', 'हिन्दी', '🦙', '👩\u200d👩\u200d👧', '🇩🇪', '\u0301',
  '\u0323\u0307', '\u0344', '\u212b', '\ufb01', '．', '！', ',', '.', '...', '!?', '$', '+', '<', '>', '_', '__', '-', '(',
  ')', '"', '\\', '/', '#', '@', '▁', '▁▁', 'Ġ', '\u0000', '\u001c', '\ufeff', '\ufffd', '\ue000', '\u{10ffff}', '<s>', '</s>', '<unk>',
  '<0x0A>', '<tool>', ' <tool> ', '<strip>', '  <strip>  ', '<word>', 'a<word>b', ' <word> ', 'Norm', 'norm', 'x', 'q', 'Z',
  '<|bos|>', '<|end|>', '\u0964', '๑', '\u0e33', '\u00ad', '\u02bc', '℃', '㈱', '\uff21', '\u1e9b\u0323',
];
const texts = (n) => {
  const list = ['', ' ', 'The quick brown fox', sample, sample.slice(0, 90), '   leading and trailing   '];
  for (let i = 0; i < n; ++i) {
    let text = '';
    for (let k = 1 + random(9); k > 0; --k) text += pick(parts);
    list.push(text);
  }
  return list;
};

// ---- vocabularies -----------------------------------------------------------------------------
const alphabet = (() => {
  const list = [];
  let next = 0x100;
  for (let b = 0; b < 256; ++b) {
    const printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b !== 0xad);
    list.push(String.fromCodePoint(printable ? b : next++));
  }
  return list;
})();
const toAlphabet = (text) => [...Buffer.from(text)].map((b) => alphabet[b]).join('');

// Byte pair merges of the words, most frequent pair first.
function train(words, nMerges) {
  const counted = new Map();
  for (const word of words) counted.set(word, (counted.get(word) || 0) + 1);
  let split = [...counted].map(([word, n]) => ({ symbols: [...word], n }));
  const merges = [];
  while (merges.length < nMerges) {
    const pairs = new Map();
    for (const { symbols, n } of split) {
      for (let i = 0; i + 1 < symbols.length; ++i) {
        const key = symbols[i] + '\u0001' + symbols[i + 1];
        pairs.set(key, (pairs.get(key) || 0) + n);
      }
    }
    if (pairs.size === 0) break;
    const best = [...pairs].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0][0].split('\u0001');
    merges.push(best);
    for (const word of split) {
      const merged = [];
      for (let i = 0; i < word.symbols.length; ++i) {
        if (word.symbols[i] === best[0] && word.symbols[i + 1] === best[1]) {
          merged.push(best[0] + best[1]);
          ++i;
        } else merged.push(word.symbols[i]);
      }
      word.symbols = merged;
    }
  }
  return merges;
}
const vocabOf = (entries) => {
  const vocab = {};
  for (const entry of entries) if (!(entry in vocab)) vocab[entry] = Object.keys(vocab).length;
  return vocab;
};
const bytes = [...Array(256).keys()].map((b) => '<0x' + b.toString(16).toUpperCase().padStart(2, '0') + '>');

function byteModel(options = {}, nMerges = 120, extra = []) {
  const words = sample.match(/ ?\S+|\s+/gu).map(toAlphabet);
  const merges = train(words, nMerges);
  const vocab = vocabOf([...alphabet, ...merges.map((m) => m.join('')), ...extra]);
  return {
    type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
    fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges, ...options,
  };
}
function markedModel(options = {}, { withBytes = true, nMerges = 120, drop = '' } = {}) {
  const words = sample.replace(/ /g, '▁').match(/▁*[^▁]+|▁+/gu);
  const merges = train(words, nMerges);
  const characters = [...new Set([...words.join(''), '▁'])].filter((c) => !drop.includes(c));
  const kept = merges.filter((m) => ![...m.join('')].some((c) => drop.includes(c)));
  const runs = [['▁', '▁'], ['▁▁', '▁▁']];
  const vocab = vocabOf([
    '<unk>', '<s>', '</s>', ...(withBytes ? bytes : []), ...characters,
    ...[...kept, ...runs].map((m) => m.join('')),
  ]);
  return {
    type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null,
    fuse_unk: true, byte_fallback: withBytes, ignore_merges: false, vocab, merges: [...kept, ...runs], ...options,
  };
}
function unigramModel(options = {}, withBytes = false) {
  const words = sample.replace(/ /g, '▁').match(/▁*[^▁]+|▁+/gu);
  const merges = train(words, 150);
  const entries = [
    '<unk>', '<s>', '</s>', ...(withBytes ? bytes : []),
    ...new Set([...words.join('').slice(0, 260), '▁', ...merges.map((m) => m.join(''))]),
  ];
  return {
    type: 'Unigram', unk_id: 0, byte_fallback: withBytes,
    vocab: entries.map((entry, i) => [entry, i < 3 ? 0 : -Math.round(1000 * (2 + 8 / [...entry].length + i / 97)) / 1000]),
    ...options,
  };
}

// A double-array trie in darts-clone's layout, for "Precompiled": small, so the first free place does.
function charsmap(map) {
  const keys = Object.keys(map).map((k) => [...Buffer.from(k)]);
  const values = [];
  let normalized = Buffer.alloc(0);
  for (const key of Object.keys(map)) {
    values.push(normalized.length);
    normalized = Buffer.concat([normalized, Buffer.from(map[key]), Buffer.from([0])]);
  }
  const units = new Array(1 << 14).fill(0);
  const used = new Set([0]);
  const place = (node, depth, members) => {
    const labels = [...new Set(members.map((m) => (depth < keys[m].length ? keys[m][depth] : -1)))].sort((a, b) => a - b);
    let offset = 1;
    const spot = (label) => node ^ offset ^ (label < 0 ? 0 : label);
    while (labels.some((l) => used.has(spot(l)) || spot(l) >= units.length)) ++offset;
    labels.forEach((l) => used.add(spot(l)));
    units[node] |= offset << 10;
    for (const label of labels) {
      const at = spot(label);
      if (label < 0) {
        units[node] |= 1 << 8;
        units[at] = (0x80000000 | values[members.find((m) => keys[m].length === depth)]) >>> 0;
      } else {
        units[at] = label;
        place(at, depth + 1, members.filter((m) => keys[m].length > depth && keys[m][depth] === label));
      }
    }
  };
  place(0, 0, keys.map((_, i) => i));
  const size = (Math.max(...used) | 255) + 1; // readers look anywhere in a block of 256
  const out = Buffer.alloc(4 + size * 4);
  out.writeUInt32LE(size * 4, 0);
  for (let i = 0; i < size; ++i) out.writeUInt32LE(units[i] >>> 0, 4 + i * 4);
  return Buffer.concat([out, normalized]).toString('base64');
}

// ---- tokenizers -------------------------------------------------------------------------------
const added = (id, content, options = {}) => ({
  id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...options,
});
const file = (model, options = {}) => ({
  version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null,
  post_processor: null, decoder: null, model, ...options,
});
const sizeOf = (model) => (Array.isArray(model.vocab) ? model.vocab.length : Object.keys(model.vocab).length);
const withTokens = (model, contents, options = {}) =>
  file(model, { added_tokens: contents.map(([content, flags], i) => added(sizeOf(model) + i, content, flags)), ...options });
const seq = (key, list) => ({ type: 'Sequence', [key]: list });
const byteLevel = (options = {}) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true, ...options });
const split = (pattern, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern, behavior, invert });
const llama3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const qwen2 = llama3.replace('{1,3}', '');
const gpt4 = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
const deepseek = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const chars = [['<|bos|>'], ['<|end|>'], ['<tool>', { special: false }]];
const sentencepieceDecoder = seq('decoders', [
  { type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' },
  { type: 'Strip', content: ' ', start: 1, stop: 0 },
]);
const llamaTokens = (options = {}) => [added(0, '<unk>', options), added(1, '<s>', options), added(2, '</s>', options)];
const template = (content, id) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: content, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
});
const replaceSpaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };

const bl = byteModel();
const whole = byteModel({ ignore_merges: true }, 60, ['Ġjumps', 'brown', 'xyzzy', 'Ġquick'].filter((e) => e));
const tokenizers = {
  gpt2: withTokens(bl, chars, { pre_tokenizer: byteLevel(), decoder: byteLevel(), post_processor: byteLevel({ trim_offsets: false }) }),
  gpt2_prefix_space: withTokens(bl, chars, { pre_tokenizer: byteLevel({ add_prefix_space: true }), decoder: byteLevel() }),
  neox: withTokens(bl, [...chars, ...['   ', '  ', '    '].map((s) => [s, { special: false, normalized: true }])],
    { normalizer: { type: 'NFC' }, pre_tokenizer: byteLevel(), decoder: byteLevel() }),
  llama3: withTokens(whole, chars, {
    pre_tokenizer: seq('pretokenizers', [split({ Regex: llama3 }), byteLevel({ use_regex: false })]), decoder: byteLevel(),
    post_processor: seq('processors', [byteLevel(), template('<|bos|>', sizeOf(whole))]),
  }),
  qwen2: withTokens(bl, chars, {
    normalizer: { type: 'NFC' }, pre_tokenizer: seq('pretokenizers', [split({ Regex: qwen2 }), byteLevel({ use_regex: false })]),
    decoder: byteLevel(), post_processor: byteLevel(),
  }),
  gpt4: withTokens(bl, chars, {
    pre_tokenizer: seq('pretokenizers', [split({ Regex: gpt4 }, 'Removed', true), byteLevel({ use_regex: false })]), decoder: byteLevel(),
  }),
  deepseek: withTokens(bl, chars, {
    normalizer: seq('normalizers', []),
    pre_tokenizer: seq('pretokenizers', [
      split({ Regex: '\\p{N}{1,3}' }), split({ Regex: '[一-龥぀-ゟ゠-ヿ]+' }), split({ Regex: deepseek }), byteLevel({ use_regex: false }),
    ]),
    decoder: byteLevel(),
  }),
  deepseek_llm: withTokens(bl, chars, {
    pre_tokenizer: seq('pretokenizers', [
      split({ Regex: '[\r\n]' }), split({ Regex: '\\s?\\p{L}+' }), split({ Regex: '\\s?\\p{P}+' }), split({ Regex: '\\s+$' }),
      split({ Regex: '[一-龥ࠀ-一가-\ud7ff]+' }), { type: 'Digits', individual_digits: true }, byteLevel({ use_regex: false }),
    ]),
    decoder: byteLevel(),
  }),
  falcon: withTokens(bl, chars, {
    pre_tokenizer: seq('pretokenizers', [
      { type: 'Punctuation', behavior: 'Contiguous' }, byteLevel(), { type: 'Digits', individual_digits: false },
      split({ Regex: '[0-9][0-9][0-9]' }),
    ]),
    decoder: byteLevel(),
  }),
  starcoder: withTokens(bl, chars, {
    pre_tokenizer: seq('pretokenizers', [{ type: 'Digits', individual_digits: true }, byteLevel()]), decoder: byteLevel(),
  }),
  llama2: file(markedModel(), {
    added_tokens: llamaTokens(), decoder: sentencepieceDecoder, post_processor: template('<s>', 1),
    normalizer: seq('normalizers', [{ type: 'Prepend', prepend: '▁' }, replaceSpaces]),
  }),
  llama2_old: file(markedModel(), {
    added_tokens: llamaTokens({ normalized: true }), decoder: sentencepieceDecoder, post_processor: template('<s>', 1),
    normalizer: seq('normalizers', [{ type: 'Prepend', prepend: '▁' }, replaceSpaces]),
  }),
  mistral: file(markedModel(), {
    added_tokens: llamaTokens(), decoder: sentencepieceDecoder, post_processor: template('<s>', 1),
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
  }),
  gemma: file(markedModel({}, { drop: '中ð' }), {
    added_tokens: llamaTokens(), normalizer: replaceSpaces, pre_tokenizer: split({ String: ' ' }, 'MergedWithPrevious'),
    decoder: seq('decoders', [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }]),
  }),
  metaspace_always: file(markedModel({ fuse_unk: false }, { withBytes: false, drop: 'zü中' }), {
    added_tokens: llamaTokens(), pre_tokenizer: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
    decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true },
  }),
  metaspace_never: file(markedModel({}, { withBytes: false, drop: 'zü中' }), {
    added_tokens: llamaTokens(), pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never', split: true },
  }),
  unigram: file(unigramModel(), {
    added_tokens: llamaTokens(), pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    normalizer: {
      type: 'Precompiled',
      precompiled_charsmap: charsmap({ 'ﬁ': 'fi', '²': '2', '½': '1⁄2', '①': '1', 'Ⅳ': 'IV', '℃': '°C', '㈱': '(株)', '\u3000': ' ', '\u00a0': ' ', '\u200b': '', '\u0000': '', '！': '!', '．': '.', '\uff21': 'A', 'e\u0301': 'é', '\n': ' ', '\t': ' ' }),
    },
  }),
  unigram_bytes: file(unigramModel({}, true), {
    added_tokens: llamaTokens(), decoder: sentencepieceDecoder,
    pre_tokenizer: seq('pretokenizers', [{ type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false }]),
  }),
  word_pieces: file(markedModel({ fuse_unk: false }, { withBytes: false, drop: 'qzü中' }), {
    added_tokens: llamaTokens(), pre_tokenizer: { type: 'Whitespace' }, decoder: { type: 'Fuse' },
    normalizer: seq('normalizers', [{ type: 'NFD' }, { type: 'Lowercase' }, { type: 'StripAccents' }, { type: 'Strip', strip_left: true, strip_right: true }]),
  }),
  whitespace_split: file(markedModel({ fuse_unk: true }, { withBytes: false, drop: 'qzü中' }), {
    added_tokens: llamaTokens(), pre_tokenizer: seq('pretokenizers', [{ type: 'WhitespaceSplit' }, { type: 'Punctuation' }]), decoder: { type: 'Fuse' },
    normalizer: seq('normalizers', [{ type: 'NFKC' }, { type: 'Replace', pattern: { Regex: '[aeiou]{2,}|\\d' }, content: 'o' }]),
  }),
  nfkd: file(markedModel({ fuse_unk: true }), {
    added_tokens: llamaTokens(), pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true }, decoder: sentencepieceDecoder,
    normalizer: seq('normalizers', [{ type: 'Strip', strip_left: true, strip_right: false }, { type: 'NFKD' }, { type: 'Replace', pattern: { String: '.' }, content: '' }]),
  }),
  added_tokens: withTokens(bl, [
    ['<s>'], ['<strip>', { lstrip: true, rstrip: true }], ['<tool>', { special: false, lstrip: true }], ['<|end|>', { rstrip: true }],
    ['<word>', { single_word: true }], ['norm', { special: false, normalized: true }], ['fox', { special: false, single_word: true }],
    ['  ', { special: false }], ['▁', { special: false, normalized: true, lstrip: true }],
  ], { normalizer: { type: 'Lowercase' }, pre_tokenizer: byteLevel(), decoder: byteLevel() }),
  duplicate_merges: withTokens(byteModel({ merges: [['t', 'h'], ['h', 'e'], ['t', 'h'], ['Ġ', 't'], ['th', 'e'], ['t', 'he'], ['h', 'e']], vocab: vocabOf([...alphabet, 'th', 'he', 'Ġt', 'the']) }), chars,
    { pre_tokenizer: byteLevel(), decoder: byteLevel() }),
};
for (const behavior of ['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous']) {
  for (const invert of [false, true]) {
    for (const [name, pattern] of [['regex', { Regex: '\\s|[a-e]|x*(?=\\.)' }], ['string', { String: 'e' }]]) {
      if (name === 'string' && invert) continue;
      tokenizers[`split_${name}_${behavior}${invert ? '_invert' : ''}`] = {
        shares: 'gpt2', pre_tokenizer: seq('pretokenizers', [split(pattern, behavior, invert), byteLevel({ use_regex: false })]),
      };
    }
  }
}

// Versions disagree on the texts of added tokens that are normalised.
const decodesAlike = (name) => name !== 'llama2_old';
async function cases(tokenizer, n, withTexts = true) {
  const list = [];
  for (const text of texts(n)) {
    const encoding = await tokenizer.encode(text, null, { addSpecialTokens: false });
    const ids = encoding.getIds();
    const decoded = withTexts && { decoded: ids.length ? await tokenizer.decode(ids, false) : '' };
    list.push({ text, ids, ...decoded });
  }
  return list;
}
const origin = 'huggingface/tokenizers 0.23.2 (npm tokenizers), by generate.mjs';
const write = (name, json) => fs.writeFileSync(path.join(here, name + '.json'), JSON.stringify(json) + '\n');
for (const [name, given] of Object.entries(tokenizers)) {
  const tokenizer = given.shares ? { ...tokenizers[given.shares], pre_tokenizer: given.pre_tokenizer } : given;
  const list = await cases(Tokenizer.fromString(JSON.stringify(tokenizer)), given.shares ? 30 : 80, decodesAlike(name));
  write(name, given.shares ? { origin, shares: given.shares, pre_tokenizer: given.pre_tokenizer, cases: list } : { origin, tokenizer: given, cases: list });
}
if (process.argv[2]) {
  const content = fs.readFileSync(path.join(process.argv[2], 'neox/tokenizer.json'), 'utf8');
  write('neox_vectors', { origin: origin + ', of EleutherAI/gpt-neox-20b', cases: await cases(Tokenizer.fromString(content), 150) });
}
