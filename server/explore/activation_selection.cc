#include "server/explore/activation_selection.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "server/base/status.h"

namespace featurescope {
namespace {

std::vector<uint32_t> SortedOnce(std::vector<uint32_t> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

// The rows of `acts` with only the columns in `features` (ascending).
SparseActivations KeepColumns(const SparseActivations& acts,
                              const std::vector<uint32_t>& features) {
  SparseActivations kept;
  kept.n_cols = acts.n_cols;
  for (size_t row = 0; row < acts.n_rows(); ++row) {
    for (uint32_t i = acts.row_offsets[row]; i < acts.row_offsets[row + 1]; ++i) {
      if (std::binary_search(features.begin(), features.end(), acts.indices[i])) {
        kept.Add(acts.indices[i], acts.values[i]);
      }
    }
    kept.EndRow();
  }
  return kept;
}

}  // namespace

ActivationSelection InOrder(ActivationSelection selection) {
  if (auto* these = std::get_if<TheseFeatures>(&selection)) {
    these->ids = SortedOnce(std::move(these->ids));
  } else if (auto* top = std::get_if<TopOverText>(&selection)) {
    top->positions = SortedOnce(std::move(top->positions));
  }
  return selection;
}

ActivationCollector::ActivationCollector(const ActivationSelection& selection, float min_activation,
                                         uint32_t n_cols, EntryBudget* budget)
    : selection_(selection), min_activation_(min_activation), budget_(budget) {
  acts_.n_cols = n_cols;
}

absl::Status ActivationCollector::Spend(size_t n_entries) {
  budget_->used += n_entries;
  if (budget_->used <= budget_->limit) return absl::OkStatus();
  return ResourceExhausted("the answer would hold more than ", budget_->limit,
                           " activations: ask for fewer texts, for certain features, for the top "
                           "k, or for a larger min_activation");
}

absl::Status ActivationCollector::AddRow(const SparseRowView& row, bool excluded) {
  const size_t before = acts_.indices.size();
  const bool over_text = std::holds_alternative<TopOverText>(selection_);
  if (over_text) excluded_.push_back(excluded);
  if (!excluded) {
    if (const auto* these = std::get_if<TheseFeatures>(&selection_)) {
      AddFeatures(*these, row);
    } else if (const auto* top = std::get_if<TopKPerToken>(&selection_)) {
      AddTopK(row, top->k);
    } else {
      AddAll(row);
    }
  }
  acts_.EndRow();
  // Over a text, what counts is what is left at its end.
  return over_text ? absl::OkStatus() : Spend(acts_.indices.size() - before);
}

void ActivationCollector::AddFeatures(const TheseFeatures& these, const SparseRowView& row) {
  // The shorter of the two lists is looked up in the longer one.
  if (row.indices.size() < these.ids.size()) {
    for (size_t i = 0; i < row.indices.size(); ++i) {
      const auto feature = static_cast<uint32_t>(row.indices[i]);
      if (row.values[i] >= min_activation_ &&
          std::binary_search(these.ids.begin(), these.ids.end(), feature)) {
        acts_.Add(feature, row.values[i]);
      }
    }
    return;
  }
  for (const uint32_t feature : these.ids) {
    const auto at =
        std::lower_bound(row.indices.begin(), row.indices.end(), static_cast<int32_t>(feature));
    if (at == row.indices.end() || static_cast<uint32_t>(*at) != feature) continue;
    const float value = row.values[static_cast<size_t>(at - row.indices.begin())];
    if (value >= min_activation_) acts_.Add(feature, value);
  }
}

void ActivationCollector::AddTopK(const SparseRowView& row, uint32_t k) {
  std::vector<size_t> order;
  for (size_t i = 0; i < row.values.size(); ++i) {
    if (row.values[i] >= min_activation_) order.push_back(i);
  }
  if (order.size() > k) {
    std::nth_element(order.begin(), order.begin() + k, order.end(), [&](size_t a, size_t b) {
      return row.values[a] != row.values[b] ? row.values[a] > row.values[b] : a < b;
    });
    order.resize(k);
    std::sort(order.begin(), order.end());
  }
  for (const size_t i : order) acts_.Add(static_cast<uint32_t>(row.indices[i]), row.values[i]);
}

void ActivationCollector::AddAll(const SparseRowView& row) {
  for (size_t i = 0; i < row.values.size(); ++i) {
    if (row.values[i] >= min_activation_) {
      acts_.Add(static_cast<uint32_t>(row.indices[i]), row.values[i]);
    }
  }
}

bool ActivationCollector::Counts(const TopOverText& top, size_t row) const {
  if (excluded_[row]) return false;
  return top.positions.empty() ||
         std::binary_search(top.positions.begin(), top.positions.end(), row);
}

void ActivationCollector::Score(const TopOverText& top, SaeActivations* out) const {
  std::vector<float> scores(acts_.n_cols, 0.0f);
  std::vector<uint32_t> seen;
  int64_t n_counted = 0;
  for (size_t row = 0; row < acts_.n_rows(); ++row) {
    if (!Counts(top, row)) continue;
    ++n_counted;
    for (uint32_t i = acts_.row_offsets[row]; i < acts_.row_offsets[row + 1]; ++i) {
      float& score = scores[acts_.indices[i]];
      if (score == 0.0f) seen.push_back(acts_.indices[i]);
      score =
          top.score == TextScore::kMax ? std::max(score, acts_.values[i]) : score + acts_.values[i];
    }
  }
  const size_t k = std::min<size_t>(top.k, seen.size());
  std::partial_sort(seen.begin(), seen.begin() + static_cast<int64_t>(k), seen.end(),
                    [&](uint32_t a, uint32_t b) {
                      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
                    });
  seen.resize(k);
  const float divisor = top.score == TextScore::kMean ? static_cast<float>(n_counted) : 1.0f;
  for (const uint32_t feature : seen) out->top_scores.push_back(scores[feature] / divisor);
  out->top_features = std::move(seen);
}

absl::Status ActivationCollector::Finish(SaeActivations* out) {
  if (const auto* top = std::get_if<TopOverText>(&selection_)) {
    Score(*top, out);
    acts_ = KeepColumns(acts_, SortedOnce(out->top_features));
    RETURN_IF_ERROR(Spend(acts_.indices.size()));
  }
  out->acts = std::move(acts_);
  return absl::OkStatus();
}

}  // namespace featurescope
