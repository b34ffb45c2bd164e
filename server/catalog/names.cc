#include "server/catalog/names.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace featurescope {
namespace {

// As TransformerLens and SAELens abbreviate what the hub spells out, both in canonical form.
constexpr std::pair<absl::string_view, absl::string_view> kAliases[] = {
    {"gpt2small", "gpt2"},
    {"metallama318b", "llama318b"},
    {"metallama38b", "llama38b"},
};

}  // namespace

std::string CanonicalModelName(absl::string_view name) {
  name = name.substr(0, name.find('@'));
  while (absl::EndsWith(name, "/")) name.remove_suffix(1);
  // The hub's cache: .../models--ORG--NAME/snapshots/COMMIT.
  constexpr absl::string_view kCached = "/models--";
  if (const size_t cached = name.find(kCached); cached != absl::string_view::npos) {
    name.remove_prefix(cached + kCached.size());
    name = name.substr(0, name.find('/'));
    if (const size_t dashes = name.rfind("--"); dashes != absl::string_view::npos) {
      name.remove_prefix(dashes + 2);
    }
  }
  if (const size_t slash = name.rfind('/'); slash != absl::string_view::npos) {
    name.remove_prefix(slash + 1);
  }
  std::string canonical;
  for (const char c : name) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      canonical.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    }
  }
  for (const auto& [alias, full] : kAliases) {
    if (canonical == alias) return std::string(full);
  }
  return canonical;
}

bool GoesByName(const ModelRow& model, absl::string_view name) {
  const std::string wanted = CanonicalModelName(name);
  return wanted == CanonicalModelName(model.id) ||
         (!model.source.empty() && wanted == CanonicalModelName(model.source));
}

std::string IdFromName(absl::string_view name) {
  constexpr size_t kMaxLength = 64;
  std::string id;
  for (const char c : name) {
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(lower));
    if (id.empty() && !plain) continue;
    const bool kept = plain || lower == '.' || lower == '_' || lower == '-';
    id.push_back(kept ? lower : '-');
    if (id.size() == kMaxLength) break;
  }
  return id;
}

}  // namespace featurescope
