// The device's half of indexing: contexts of the corpus in, their feature activations by feature
// out.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/run_context.h"
#include "server/index/batch_plan.h"
#include "server/index/feature_accumulators.h"
#include "server/index/reconstruction.h"
#include "server/index/run_indexing.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Which ids of the model's vocabulary are special: see IndexInputs::tokenizer; the corpus's BOS
// always is.
std::vector<bool> SpecialTokens(const IndexInputs& inputs);

// The activations of some consecutive contexts, in the host's memory.
struct ActivationBatch {
  uint64_t first_context = 0;
  std::vector<int32_t> context_begin = {0};
  std::vector<uint8_t> counted;
  torch::Tensor column_offsets;  // int64 [d_sae + 1]
  torch::Tensor rows;            // int32 [nnz]
  torch::Tensor values;          // float32 [nnz]
  ReconstructionSums reconstruction;

  uint64_t n_contexts() const { return context_begin.size() - 1; }
  uint64_t n_tokens() const { return counted.size(); }
  ActivationsByFeature by_feature() const;
};

class ContextActivations {
 public:
  // Contexts whose index `decode_every` divides are decoded for the explained variance.
  ContextActivations(const IndexInputs& inputs, const BatchPlan& plan, uint32_t decode_every);

  // Computes contexts [first, first + n) on run.device, in quanta of plan.tokens_per_quantum.
  //   errors  those of the corpus, the forward pass and the device
  absl::StatusOr<ActivationBatch> Compute(uint64_t first, uint64_t n, const RunContext& run) const;

 private:
  struct Pieces;

  absl::Status ComputePiece(const SequenceBatch& sequences, const RunContext& run,
                            const ActivationBatch& batch, Pieces& pieces) const;
  torch::Tensor RowsToDecode(const ActivationBatch& batch, int64_t first_row, int64_t n_rows) const;

  const IndexInputs& inputs_;
  const BatchPlan plan_;
  const uint32_t decode_every_;
  const std::vector<bool> special_;
};

}  // namespace featurescope
