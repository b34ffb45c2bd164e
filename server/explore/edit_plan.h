// Interventions on the rows of one packed forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/explore/intervention.h"
#include "server/model/hooks.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Made for one pass, on the device worker's thread. Many generations put their rows in; rows with
// the same SAE are edited together.
class EditPlan {
 public:
  // The edits of one row. `edits` are all of the generation's interventions, `applying` says which
  // of them apply to this row (ascending, not empty), `proofs` has one entry for each of `edits`.
  // What is referred to outlives the plan.
  void Add(int64_t row, uint32_t position, absl::Span<const Intervention> edits,
           const std::vector<size_t>& applying, std::vector<EditProof>* proofs);

  // Adds one editor for each hook point concerned. The plan outlives the pass.
  void AddHooks(HookSet* hooks);

  // Why an edit failed. The pass then fails too, with a status that does not say why.
  const absl::Status& status() const { return status_; }

  // After a good pass: writes what was done into the proofs.
  void Commit();

 private:
  // One edit at one position.
  struct Edit {
    const Intervention* intervention = nullptr;
    EditProof* proof = nullptr;
  };
  struct RowEdits {
    int64_t row = 0;
    uint32_t position = 0;
    std::vector<Edit> edits;  // in the request's order
  };
  // Rows that are edited together.
  struct Group {
    SaeRef sae;
    ErrorTerm error_term = ErrorTerm::kKept;
    std::vector<RowEdits> rows;
    // Transcoders: what they read in these rows, float32 [rows, d_in], from when the pass was
    // there.
    torch::Tensor read = {};

    std::vector<int64_t> row_indices() const;
  };
  // A row's n-th SAE at a hook point is edited in the n-th stage.
  struct HookEdits {
    HookPoint hook;  // the one that is written
    std::vector<std::vector<Group>> stages;
  };
  struct Noted {
    EditProof* proof = nullptr;
    uint32_t position = 0;
    float before = 0;
    float after = 0;
    float relative_change = 0;
  };

  RowEdits& RowFor(const Intervention& edit, size_t stage, int64_t row, uint32_t position);
  absl::Status EditValue(const HookEdits& at, torch::Tensor* value);
  // y' of rows y [n, d_out] at the hook that is written.
  absl::StatusOr<torch::Tensor> EditRows(const Group& group, const torch::Tensor& y);

  std::vector<HookEdits> hooks_;
  std::vector<Noted> noted_;
  absl::Status status_;
};

}  // namespace featurescope
