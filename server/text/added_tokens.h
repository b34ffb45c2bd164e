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

// A set of literal texts with their ids. Built once, then const and thread-safe.
class AddedTokens {
 public:
  // REQUIRES: content is not empty. The first of equal contents counts.
  void Add(absl::string_view content, uint32_t id);
  bool empty() const { return first_bytes_.none(); }

  // Cuts `text` at the leftmost, longest occurrences. Calls on_text for the (non-empty) stretches
  // between them with their offset in `text`, and on_token for each occurrence, in order.
  void Split(absl::string_view text,
             absl::FunctionRef<void(absl::string_view text, size_t offset)> on_text,
             absl::FunctionRef<void(uint32_t id)> on_token) const;

 private:
  static constexpr uint32_t kNoToken = UINT32_MAX;
  // Longest token at the start of `text`; returns its length, 0 for none.
  size_t Match(absl::string_view text, uint32_t* id) const;

  std::bitset<256> first_bytes_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node
  std::vector<uint32_t> token_at_node_{kNoToken};
};

}  // namespace featurescope
