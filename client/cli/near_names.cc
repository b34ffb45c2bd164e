#include "client/cli/near_names.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"

namespace featurescope {
namespace {

// Letters to insert, delete or exchange between the two (Levenshtein's distance).
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t exchanged = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({exchanged, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

bool Contains(absl::string_view whole, absl::string_view part) {
  return part.size() >= 3 && absl::StrContains(whole, part);
}

}  // namespace

std::vector<std::string> NearNames(absl::string_view name, const std::vector<std::string>& names,
                                   size_t most) {
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& other : names) {
    const size_t distance = Distance(name, other);
    const size_t letters = std::min(name.size(), other.size());
    if (distance <= std::max<size_t>(1, letters / 3)) {
      near.emplace_back(distance, other);
    } else if (Contains(other, name) || Contains(name, other)) {
      near.emplace_back(letters + distance, other);
    }
  }
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> found;
  for (const auto& [distance, other] : near) {
    if (found.size() < most) found.push_back(other);
  }
  return found;
}

}  // namespace featurescope
