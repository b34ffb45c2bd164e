// Where a run's activations come from, block by block.
//
// A row is one token's activations, in one or several channels: the hook points that the run reads.
// A block depends only on its number, so that a run that resumes gets what it would have got.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"

namespace featurescope {

// Not thread-safe.
class ActivationSource {
 public:
  virtual ~ActivationSource() = default;

  // Values of a row in each channel.
  const std::vector<int64_t>& widths() const { return widths_; }
  // Rows of a block at most.
  virtual int64_t MaxRows(uint64_t block) const = 0;
  // Writes the rows of a block's piece to `rows` (float32 [at least MaxRows, width], one for each
  // channel) from row *n_rows on, and advances that. Pieces follow each other from 0; a piece is
  // what a device may be taken for at a time. True: it was the last one.
  //
  //   errors  FailedPrecondition  activations that are not finite, saying where
  //           those of reading files; Cancelled
  virtual absl::StatusOr<bool> Read(uint64_t block, uint64_t piece, const CancelToken& cancel,
                                    std::vector<torch::Tensor>* rows, int64_t* n_rows) = 0;
  virtual torch::Device device() const = 0;

 protected:
  std::vector<int64_t> widths_;
};

// The source of a resolved spec: model and corpora, or files of activations.
//   hooks  one for each channel
//   errors  InvalidArgument  a hook that model or files do not have
absl::StatusOr<std::unique_ptr<ActivationSource>> MakeActivationSource(
    const TrainingInputs& inputs, const std::vector<HookPoint>& hooks, const TrainingSpec& spec);

}  // namespace featurescope
