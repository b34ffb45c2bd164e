// Byte-pair merging: symbols of a word are merged pair by pair, lowest rank first, leftmost first.
//
// Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
// arXiv:1508.07909; order of merges as in huggingface/tokenizers, models/bpe/word.rs.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace featurescope {

// Built once, then const and thread-safe.
class BpeMerges {
 public:
  void Reserve(size_t n_merges) { merges_.reserve(n_merges); }

  // Merges the symbols `left`, `right` into `merged`; a lower rank goes first. The last of equal
  // pairs counts.
  void AddMerge(uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);

  // Appends what the symbols of one word merge to; O(n log n) for n symbols.
  void Merge(absl::Span<const uint32_t> symbols, std::vector<uint32_t>* ids) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  static constexpr size_t kShortWord = 32;  // symbols

  struct Result {
    uint32_t rank = kNoRank;
    uint32_t id = 0;
  };
  Result Find(uint32_t left, uint32_t right) const;
  void MergeShort(absl::Span<const uint32_t> symbols, std::vector<uint32_t>* ids) const;
  void MergeLong(absl::Span<const uint32_t> symbols, std::vector<uint32_t>* ids) const;

  absl::flat_hash_map<uint64_t, Result> merges_;
};

}  // namespace featurescope
