// Pieces in the order of their bytes: finds all that a text begins with.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace featurescope {

// Pieces that begin with the same bytes are neighbours. Borrows their texts. Built once, then const
// and thread-safe.
class SortedPieces {
 public:
  void Add(absl::string_view text, uint32_t id) { entries_.push_back({text, id}); }
  void Sort() {
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.text < b.text; });
    for (const Entry& entry : entries_) ++first_[static_cast<uint8_t>(entry.text[0]) + 1];
    for (size_t byte = 1; byte < first_.size(); ++byte) first_[byte] += first_[byte - 1];
  }

  // Calls on_piece(id, size) for every piece that `text` begins with, shortest first.
  // REQUIRES: text is not empty; Sort was called after the last Add.
  template <typename OnPiece>
  void ForEachPrefix(absl::string_view text, const OnPiece& on_piece) const {
    const size_t byte = static_cast<uint8_t>(text[0]);
    const Entry* begin = entries_.data() + first_[byte];
    const Entry* end = entries_.data() + first_[byte + 1];
    for (size_t size = 1; begin != end; ++size) {
      if (begin->text.size() == size) {
        on_piece(begin->id, size);
        ++begin;
      }
      if (begin == end || size == text.size()) return;
      Narrow(static_cast<uint8_t>(text[size]), size, &begin, &end);
    }
  }

 private:
  struct Entry {
    absl::string_view text;
    uint32_t id;
  };
  // Keeps the entries whose byte `at` is `byte`. REQUIRES: all are longer than `at`.
  static void Narrow(uint8_t byte, size_t at, const Entry** begin, const Entry** end) {
    const auto byte_of = [at](const Entry& entry) { return static_cast<uint8_t>(entry.text[at]); };
    if (byte_of(**begin) == byte && byte_of((*end)[-1]) == byte) return;
    *begin = std::partition_point(*begin, *end,
                                  [&](const Entry& entry) { return byte_of(entry) < byte; });
    *end = std::partition_point(*begin, *end,
                                [&](const Entry& entry) { return byte_of(entry) == byte; });
  }

  std::vector<Entry> entries_;
  std::array<size_t, 257> first_{};  // by first byte: where its entries begin
};

}  // namespace featurescope
