// The entries of a tokenizer.json's vocabulary and added tokens, by text and by id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// Ids above this are refused, whatever the size of the vocabulary.
constexpr uint32_t kMaxTokenId = 1u << 22;

// Built once, then const and thread-safe.
class Vocabulary {
 public:
  struct Entry {
    std::string text;  // as the file writes it
    bool exists = false;
    bool added = false;    // an added token: it stands for its text, and no decoder changes it
    bool special = false;  // BOS, EOS and the like
  };

  // Makes room for so many more entries. Ids may have gaps, but one wild id must not take
  // gigabytes: those far beyond the number of entries are refused.
  void Reserve(size_t n_entries);
  // An entry of the model. InvalidArgument: the text or the id is another entry's, or the id is too
  // high.
  absl::Status Add(absl::string_view text, uint32_t id);
  // An added token, new or an entry of the model. InvalidArgument: the text is empty or has another
  // id, or the id another text, or the id is too high.
  absl::Status AddToken(absl::string_view text, uint32_t id, bool special);
  void MarkSpecial(uint32_t id) { entries_[id].special = true; }

  std::optional<uint32_t> Find(absl::string_view text) const;
  bool Has(uint32_t id) const { return id < entries_.size() && entries_[id].exists; }
  // By id, with gaps where exists is false.
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  absl::Status CheckId(absl::string_view text, uint32_t id) const;
  Entry& EntryAt(uint32_t id);

  size_t n_expected_ = 0;
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string, uint32_t> ids_;
};

// A text in quotes, made printable and cut to a length that fits in a message.
std::string Quoted(absl::string_view text);

}  // namespace featurescope
