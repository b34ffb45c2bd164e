// What a request wants to see of one SAE's activations on one text.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/explore/activations.h"
#include "server/explore/sparse_activations.h"

namespace featurescope {

// How many activations one answer may still hold.
struct EntryBudget {
  uint64_t limit = 0;
  uint64_t used = 0;
};

// The same selection with feature ids and positions ascending, once each.
ActivationSelection InOrder(ActivationSelection selection);

// Takes the rows of a text one by one and keeps what was selected.
class ActivationCollector {
 public:
  // `selection`, which is in order, and `budget` outlive the collector.
  ActivationCollector(const ActivationSelection& selection, float min_activation, uint32_t n_cols,
                      EntryBudget* budget);

  // The next token's activations, all of them. An excluded row stays empty and counts for nothing.
  //   errors  ResourceExhausted  the budget is used up
  absl::Status AddRow(const SparseRowView& row, bool excluded);

  // After the last row. Fills acts, top_features and top_scores.
  absl::Status Finish(SaeActivations* out);

 private:
  absl::Status Spend(size_t n_entries);
  void AddFeatures(const TheseFeatures& these, const SparseRowView& row);
  void AddTopK(const SparseRowView& row, uint32_t k);
  void AddAll(const SparseRowView& row);
  bool Counts(const TopOverText& top, size_t row) const;
  void Score(const TopOverText& top, SaeActivations* out) const;

  const ActivationSelection& selection_;
  const float min_activation_;
  EntryBudget* const budget_;
  std::vector<bool> excluded_;  // TopOverText: which rows
  SparseActivations acts_;      // TopOverText: all of the text's, else those selected
};

}  // namespace featurescope
