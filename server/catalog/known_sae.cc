#include "server/catalog/known_sae.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace featurescope {

KnownOfSae KnownOf(const SaeSource& source) {
  KnownOfSae known;
  known.model = source.model;
  known.hook_name = source.hook_name;
  known.hook_name_out = source.hook_name_out;
  known.center_writing_weights = source.options.center_writing_weights;
  known.prepend_bos = source.options.prepend_bos;
  known.context_size = static_cast<uint32_t>(std::max(0, source.options.context_size.value_or(0)));
  known.norm_scaling_factor = source.options.norm_scaling_factor;
  known.note = source.options.note;
  return known;
}

KnownOfSae KnownOfPath(absl::string_view path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  for (size_t i = 0; i + 2 < parts.size(); ++i) {
    absl::string_view repo = parts[i];
    if (!absl::ConsumePrefix(&repo, "models--") || parts[i + 1] != "snapshots") continue;
    std::string source = absl::StrReplaceAll(repo, {{"--", "/"}});
    if (parts.size() > i + 3) {
      absl::StrAppend(&source, "/",
                      absl::StrJoin(parts.begin() + static_cast<int64_t>(i) + 3, parts.end(), "/"));
    }
    const auto known = ResolveSaeSource(source);
    return known.ok() && !known->release.empty() ? KnownOf(*known) : KnownOfSae();
  }
  return {};
}

}  // namespace featurescope
