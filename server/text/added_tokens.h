// Tokens that are found in raw text before anything else: "<|endoftext|>", chat markers.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// How an added token is found, as tokenizer.json says it.
struct AddedTokenOptions {
  bool special = false;      // not found by a split that leaves special ones out
  bool single_word = false;  // found only where no character of a word is beside it
  bool lstrip = false;       // takes the white space before it with it
  bool rstrip = false;       // and that behind it
};

// A set of literal texts with their ids. Built once, then const and thread-safe.
class AddedTokens {
 public:
  // REQUIRES: content is not empty. The first of equal contents counts.
  void Add(absl::string_view content, uint32_t id, const AddedTokenOptions& options = {});
  bool empty() const { return tokens_.empty(); }

  // Cuts `text` at the leftmost, longest occurrences. Calls on_text for the (non-empty) stretches
  // between them with their offset in `text`, and on_token for each occurrence, in order. An
  // occurrence that its options or `with_special` rule out stays text, whole.
  void Split(absl::string_view text, bool with_special,
             absl::FunctionRef<void(absl::string_view text, size_t offset)> on_text,
             absl::FunctionRef<void(uint32_t id)> on_token) const;

 private:
  static constexpr uint32_t kNoToken = UINT32_MAX;
  struct Token {
    uint32_t id;
    AddedTokenOptions options;
  };
  // Longest token at the start of `text`; returns its length, 0 for none.
  size_t Match(absl::string_view text, const Token** token) const;

  std::bitset<256> first_bytes_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node
  std::vector<uint32_t> token_at_node_{kNoToken};     // index into tokens_
  std::vector<Token> tokens_;
};

}  // namespace featurescope
