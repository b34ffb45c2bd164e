// Pre-tokenizer patterns of well-known models, each written out as a scanner: linear time on any
// text, and twice as fast as a compiled regular expression.
//
// A matcher gives the bytes of the match at the beginning of `text`, 0 where the pattern does not
// match there. REQUIRES of all: text is valid UTF-8 and not empty. tests/text proves them equal to
// PCRE2 running the patterns.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace featurescope {

using PieceMatcher = size_t (*)(absl::string_view text);

// GPT-2, GPT-NeoX; never 0. Source: openai/gpt-2, src/encoder.py.
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t MatchGpt2(absl::string_view text);

// Llama 3 and what is distilled into it; never 0. Source: meta-llama/llama3, tokenizer.py.
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
//   \s*[\r\n]+|\s+(?!\S)|\s+
size_t MatchLlama3(absl::string_view text);
// Qwen 2 to 3: the same with numbers one digit at a time; never 0.
size_t MatchQwen2(absl::string_view text);

// DeepSeek V3 and R1 cut three times. Source: deepseek-ai/DeepSeek-V3, tokenizer.json.
//   \p{N}{1,3}
size_t MatchThreeNumbers(absl::string_view text);
//   [\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+
size_t MatchHanAndKana(absl::string_view text);
//   [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
//   ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// (the third alternative begins with a space)
size_t MatchDeepSeekWords(absl::string_view text);

// The matcher of a pattern as tokenizer.json writes it, nullptr for any other pattern.
PieceMatcher FindPieceMatcher(absl::string_view pattern);

}  // namespace featurescope
