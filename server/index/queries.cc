#include "server/index/queries.h"

#include <algorithm>
#include <utility>

#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr uint32_t kMaxExamplePageSize = 100;

}  // namespace

void CutWindow(uint32_t window, ExampleRow* example) {
  const uint32_t before = example->position - example->window_start;
  const auto n = static_cast<uint32_t>(example->tokens.size());
  const uint32_t begin = before - std::min(before, window);
  const uint32_t end = window < n - before - 1 ? before + window + 1 : n;
  example->tokens.erase(example->tokens.begin() + end, example->tokens.end());
  example->tokens.erase(example->tokens.begin(), example->tokens.begin() + begin);
  example->acts.erase(example->acts.begin() + end, example->acts.end());
  example->acts.erase(example->acts.begin(), example->acts.begin() + begin);
  example->window_start += begin;
}

absl::StatusOr<std::vector<IndexedExample>> ListExamples(const IndexReader& index,
                                                         const ExampleQuery& query) {
  if (query.page_size < 1 || query.page_size > kMaxExamplePageSize) {
    return InvalidArgument("page_size ", query.page_size, " is out of range [1, ",
                           kMaxExamplePageSize, "]");
  }
  ASSIGN_OR_RETURN(const FeatureRow stats, index.GetFeature(query.feature));
  ASSIGN_OR_RETURN(const FeatureDetailRow detail, index.GetFeatureDetail(query.feature));
  const uint32_t first_band = query.bands ? 1 : 0;
  const uint32_t last_band = query.bands ? kMaxIndexBands : 0;
  ASSIGN_OR_RETURN(std::vector<ExampleRow> rows,
                   index.ListExamples(query.feature, first_band, last_band, query.page_size));
  std::vector<IndexedExample> examples;
  examples.reserve(rows.size());
  for (ExampleRow& row : rows) {
    BandRow band = {0.0f, static_cast<float>(stats.max), 1.0};
    if (row.band > 0) {
      if (row.band > detail.bands.size()) {
        return absl::DataLossError(absl::StrCat(index.path(), ": feature ", query.feature,
                                                " has an example in band ", row.band, " of ",
                                                detail.bands.size()));
      }
      band = detail.bands[row.band - 1];
    }
    // A file from elsewhere may hold anything.
    if (row.position < row.window_start || row.position - row.window_start >= row.tokens.size()) {
      return absl::DataLossError(absl::StrCat(index.path(), ": an example of feature ",
                                              query.feature, " does not hold its centre, token ",
                                              row.position));
    }
    if (query.window > 0) CutWindow(query.window, &row);
    examples.push_back({band, std::move(row)});
  }
  return examples;
}

}  // namespace featurescope
