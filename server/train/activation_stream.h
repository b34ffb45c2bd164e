// The activations that training feeds on: blocks of a source's rows, shuffled and served in
// batches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/tensor/torch.h"
#include "server/train/activation_source.h"
#include "server/train/spec.h"

namespace featurescope {

// Not thread-safe. Holds one block: buffer_tokens rows of each channel, as floats.
class ActivationStream {
 public:
  //   spec   resolved: its seed, batch_size, buffer_tokens and what chooses tokens count
  //   hooks  one for each channel
  static absl::StatusOr<std::unique_ptr<ActivationStream>> Create(
      const TrainingInputs& inputs, const std::vector<HookPoint>& hooks, const TrainingSpec& spec);

  // Begins to fill block `block`; its rows so far are forgotten.
  void BeginBlock(uint64_t block);
  // Reads the next piece of the block. True when the block is full and shuffled.
  //
  //   errors  those of ActivationSource::Read; FailedPrecondition  a block with fewer rows than a
  //           batch
  absl::StatusOr<bool> FillSome(const CancelToken& cancel);

  uint64_t block() const { return block_; }
  // Of the full block; a rest that is less than a batch is left out.
  int64_t n_batches() const { return static_cast<int64_t>(order_.size()) / batch_size_; }
  // Writes a channel's rows of batch `i` to `out`, float32 [batch_size, width]: scaled per token as
  // `scaling` says, and by `scale`.   REQUIRES: the block is full, i < n_batches().
  void CopyBatch(int64_t i, size_t channel, InputScaling scaling, double scale,
                 torch::Tensor& out) const;
  // The scale of the whole data set, measured on the block, that `scaling` asks for; 1 for one per
  // token.   REQUIRES: the block is full.
  double MeasureScale(size_t channel, InputScaling scaling) const;

  // Values of a row in each channel.
  const std::vector<int64_t>& widths() const { return source_->widths(); }
  torch::Device device() const { return source_->device(); }
  // What a stream of a resolved spec holds, of rows of `width` values in all channels together.
  static uint64_t MemoryBytes(const TrainingSpec& resolved, int64_t width);

 private:
  ActivationStream(std::unique_ptr<ActivationSource> source, const TrainingSpec& spec);

  // Makes room for a block's rows.
  void Allocate();

  const std::unique_ptr<ActivationSource> source_;
  const uint64_t seed_;
  const int64_t batch_size_;

  std::vector<torch::Tensor> rows_;  // of each channel, [capacity, width]
  int64_t n_rows_ = 0;
  std::vector<int64_t> order_;  // of the full block
  uint64_t block_ = 0;
  uint64_t next_piece_ = 0;
};

// Scales the rows of x per token, in place, where `scaling` says so.
void ScaleTokens(InputScaling scaling, torch::Tensor& x);

}  // namespace featurescope
