// Byte-pair merging: symbols of a word are merged pair by pair, lowest rank first, leftmost first.
//
// Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
// arXiv:1508.07909; order of merges as in huggingface/tokenizers, models/bpe/word.rs.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// Built once, then const and thread-safe.
class BpeMerges {
 public:
  // The symbol that every byte starts as.
  void SetByteSymbol(uint8_t byte, uint32_t id) { byte_symbols_[byte] = id; }
  uint32_t ByteSymbol(uint8_t byte) const { return byte_symbols_[byte]; }

  // Merges the symbols `left`, `right` into `merged`; a lower rank goes first. The first of equal
  // pairs counts.
  void AddMerge(uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);

  // Appends the ids of one word to *ids; O(n log n) for n bytes.
  void EncodeWord(absl::string_view word, std::vector<uint32_t>* ids) const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  static constexpr size_t kShortWord = 32;  // bytes

  struct Merge {
    uint32_t rank = kNoRank;
    uint32_t id = 0;
  };
  Merge Find(uint32_t left, uint32_t right) const;
  void EncodeShort(absl::string_view word, std::vector<uint32_t>* ids) const;
  void EncodeLong(absl::string_view word, std::vector<uint32_t>* ids) const;

  std::array<uint32_t, 256> byte_symbols_{};
  absl::flat_hash_map<uint64_t, Merge> merges_;
};

}  // namespace featurescope
