#include "server/hub/sae_releases.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/base/status.h"
#include "server/hub/sae_release_table.h"
#include "server/hub/selection.h"

namespace featurescope {
namespace {

constexpr absl::string_view kCanonical = "/canonical";
constexpr absl::string_view kL0Folder = "average_l0_";
constexpr int64_t kCanonicalL0 = 100;

using Values = std::map<char, std::string>;

bool Fits(char placeholder, char c) {
  const auto byte = static_cast<unsigned char>(c);
  switch (placeholder) {
    case 'L':
    case 'N':
      return absl::ascii_isdigit(byte);
    case 'A':
      return absl::ascii_isalpha(byte);
    default:  // W: 16k, 1m, 24576
      return absl::ascii_isdigit(byte) || absl::ascii_islower(byte);
  }
}

// Whether `text` has the form of `pattern`; fills in what its placeholders stand for.
bool Match(absl::string_view pattern, absl::string_view text, Values* values) {
  while (!pattern.empty()) {
    if (pattern[0] != '{') {
      if (text.empty() || text[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      text.remove_prefix(1);
      continue;
    }
    const char placeholder = pattern[1];
    pattern.remove_prefix(3);
    size_t n = 0;
    while (n < text.size() && Fits(placeholder, text[n])) ++n;
    if (n == 0) return false;
    const std::string value(text.substr(0, n));
    if (!values->emplace(placeholder, value).second && (*values)[placeholder] != value) {
      return false;
    }
    text.remove_prefix(n);
  }
  return text.empty();
}

std::string FillIn(std::string pattern, const Values& values) {
  for (const auto& [placeholder, value] : values) {
    pattern = absl::StrReplaceAll(pattern,
                                  {{absl::StrCat("{", std::string(1, placeholder), "}"), value}});
  }
  return pattern;
}

SaeSource Source(const SaeRelease& release, const SaeIdPattern& pattern, const Values& values) {
  SaeSource source;
  source.release = release.name;
  source.id = FillIn(pattern.id, values);
  source.repo = release.repo;
  source.path = FillIn(pattern.path, values);
  source.model = release.model;
  source.hook_name = FillIn(pattern.hook_name, values);
  source.hook_name_out = FillIn(pattern.hook_name_out, values);
  source.options = release.options;
  if (pattern.norm_scaling_factor != 0) {
    source.options.norm_scaling_factor = pattern.norm_scaling_factor;
  }
  return source;
}

const SaeRelease* FindRelease(absl::string_view name) {
  absl::ConsumeSuffix(&name, "-canonical");  // a list of its own elsewhere
  for (const SaeRelease& release : SaeReleases()) {
    if (release.name == name) return &release;
  }
  return nullptr;
}

std::string Forms(const SaeRelease& release) {
  std::vector<std::string> forms;
  for (const SaeIdPattern& pattern : release.ids) {
    forms.push_back(absl::StrCat(release.name, "/", pattern.id));
  }
  return ListSome(forms);
}

absl::StatusOr<SaeSource> FromRelease(const SaeRelease& release, absl::string_view id) {
  for (const SaeIdPattern& pattern : release.ids) {
    Values values;
    if (Match(pattern.id, id, &values)) return Source(release, pattern, values);
  }
  return NotFound("release ", release.name, id.empty() ? " needs an id" : " has no id such as \"",
                  id, id.empty() ? "" : "\"", "; its SAEs are ", Forms(release));
}

// ORG/REPO[/path][@REVISION].
absl::StatusOr<SaeSource> FromRepo(absl::string_view spec) {
  SaeSource source;
  if (const size_t at = spec.find_last_of('@'); at != absl::string_view::npos) {
    source.revision = std::string(spec.substr(at + 1));
    spec = spec.substr(0, at);
    RETURN_IF_ERROR(CheckHubRevision(source.revision));
  }
  absl::ConsumeSuffix(&spec, "/");
  const size_t path = spec.find('/', spec.find('/') + 1);
  source.repo = std::string(spec.substr(0, path));
  RETURN_IF_ERROR(CheckHubRepo(source.repo));
  if (path != absl::string_view::npos) {
    source.path = std::string(spec.substr(path + 1));
    RETURN_IF_ERROR(CheckHubPath(source.path));
  }
  // What the table knows of a repository holds however it is named.
  for (const SaeRelease& release : SaeReleases()) {
    if (release.repo != source.repo) continue;
    for (const SaeIdPattern& pattern : release.ids) {
      Values values;
      if (!Match(pattern.path, source.path, &values)) continue;
      SaeSource known = Source(release, pattern, values);
      known.revision = source.revision;
      return known;
    }
  }
  return source;
}

}  // namespace

absl::Span<const SaeRelease> SaeReleases() {
  static const auto* table = new std::vector<SaeRelease>(MakeSaeReleaseTable());
  return *table;
}

absl::StatusOr<SaeSource> ResolveSaeSource(absl::string_view spec) {
  const absl::string_view first = spec.substr(0, spec.find('/'));
  if (const SaeRelease* release = FindRelease(first)) {
    absl::string_view id = spec.substr(first.size());
    absl::ConsumePrefix(&id, "/");
    return FromRelease(*release, id);
  }
  const absl::string_view second = spec.substr(std::min(first.size() + 1, spec.size()));
  if (!second.empty()) return FromRepo(spec);
  std::vector<std::string> names;
  for (const SaeRelease& release : SaeReleases()) names.push_back(release.name);
  return InvalidArgument("\"", spec, "\" is no SAE: give ORG/REPO[/path][@REVISION], or an id of ",
                         "one of these releases: ", absl::StrJoin(names, ", "));
}

bool IsOpenChoice(const SaeSource& source) {
  return !source.release.empty() && absl::EndsWith(source.path, kCanonical);
}

absl::StatusOr<SaeSource> CompleteSaeSource(SaeSource source, const HubListing& listing) {
  absl::string_view folder = source.path;
  if (IsOpenChoice(source)) {
    absl::ConsumeSuffix(&folder, kCanonical);
    int64_t best = -1;
    for (const std::string& place : SaePlaces(listing, folder)) {
      absl::string_view name = place;
      int64_t l0 = 0;
      if (!absl::ConsumePrefix(&name, absl::StrCat(folder, "/", kL0Folder)) ||
          !absl::SimpleAtoi(name, &l0)) {
        continue;
      }
      if (best < 0 || std::abs(l0 - kCanonicalL0) < std::abs(best - kCanonicalL0)) best = l0;
    }
    if (best >= 0) {
      source.path = absl::StrCat(folder, "/", kL0Folder, best);
      return source;
    }
  }
  if (source.path.empty() || listing.Find(source.path) != nullptr ||
      !SaePlaces(listing, source.path).empty()) {
    return source;
  }
  // What lies below the closest folder that exists.
  std::string above = source.path;
  std::vector<std::string> places;
  while (places.empty() && !above.empty()) {
    const size_t slash = above.find_last_of('/');
    above = slash == std::string::npos ? "" : above.substr(0, slash);
    places = SaePlaces(listing, above);
  }
  return NotFound(listing.repo, " has no SAE at ", source.path, "; there is ",
                  places.empty() ? "none at all" : ListSome(places));
}

}  // namespace featurescope
