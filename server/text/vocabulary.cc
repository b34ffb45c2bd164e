#include "server/text/vocabulary.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/utf8.h"

namespace featurescope {

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", PrintableUtf8(text, 100), "\"");
}

void Vocabulary::Reserve(size_t n_entries) { n_expected_ += n_entries; }

absl::Status Vocabulary::CheckId(absl::string_view text, uint32_t id) const {
  const size_t highest = std::min<size_t>(kMaxTokenId, (64u << 10) + 8 * n_expected_);
  if (id <= highest) return absl::OkStatus();
  return InvalidArgument("token ", Quoted(text), " has id ", id, ", allowed is [0, ", highest,
                         "] with ", n_expected_, " tokens");
}

Vocabulary::Entry& Vocabulary::EntryAt(uint32_t id) {
  if (id >= entries_.size()) entries_.resize(id + 1);
  return entries_[id];
}

absl::Status Vocabulary::Add(absl::string_view text, uint32_t id) {
  RETURN_IF_ERROR(CheckId(text, id));
  Entry& entry = EntryAt(id);
  if (entry.exists) {
    return InvalidArgument("token ", Quoted(text), " has id ", id, ", which another token, ",
                           Quoted(entry.text), ", has");
  }
  const auto [known, inserted] = ids_.try_emplace(std::string(text), id);
  if (!inserted) {
    return InvalidArgument("token ", Quoted(text), " has the ids ", known->second, " and ", id);
  }
  entry.text = std::string(text);
  entry.exists = true;
  return absl::OkStatus();
}

absl::Status Vocabulary::AddToken(absl::string_view text, uint32_t id, bool special) {
  if (text.empty()) return InvalidArgument("token ", id, " is empty");
  RETURN_IF_ERROR(CheckId(text, id));
  const auto known = ids_.find(text);
  if (known == ids_.end() ? Has(id) : known->second != id) {
    return InvalidArgument("token ", Quoted(text), " has id ", id,
                           ", which disagrees with the vocabulary");
  }
  Entry& entry = EntryAt(id);
  ids_.try_emplace(std::string(text), id);
  entry = {std::string(text), true, true, special || entry.special};
  return absl::OkStatus();
}

std::optional<uint32_t> Vocabulary::Find(absl::string_view text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? std::nullopt : std::optional<uint32_t>(found->second);
}

}  // namespace featurescope
