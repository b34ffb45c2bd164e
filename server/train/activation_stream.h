// The activations that training feeds on: corpus -> model up to the hook -> shuffled batches.
//
// The corpus' contexts are visited in a seeded order, another one in each round through it. Blocks
// of contexts are forwarded, positions of special tokens left out, and the rows of a block are
// shuffled and served in batches. A block depends only on its number, so that a run that resumes
// gets exactly the batches that it would have got. A transcoder's targets come from another hook
// point in the same pass.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/cancel.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"
#include "server/train/train_state.h"

namespace featurescope {

// Tokens of one forward pass at most, unless one context has more.
constexpr uint64_t kMaxMicroBatchTokens = 4096;

// The tokens of one pass over the corpus that `spec` trains on.
//   errors  those of reading the corpus
absl::StatusOr<uint64_t> CountKeptTokens(const TrainingInputs& inputs, const TrainingSpec& spec);

// Which tokens of a context are trained on.
class TokenFilter {
 public:
  TokenFilter(const TrainingInputs& inputs, const TrainingSpec& spec);
  // Appends the indices of `ids`' tokens, counted from `first`.
  void AppendKept(const std::vector<uint32_t>& ids, int64_t first,
                  std::vector<int64_t>* kept) const;

 private:
  bool IsSpecial(uint32_t token) const;

  const TokenPositions positions_;
  std::vector<uint32_t> special_;  // sorted; none where they are trained on
};

// Not thread-safe. Holds one block: buffer_tokens x (d_in + a transcoder's d_out) floats, plus one
// micro-batch.
class ActivationStream {
 public:
  //   spec  resolved
  //   errors  InvalidArgument  the hook is not in the model
  static absl::StatusOr<std::unique_ptr<ActivationStream>> Create(const TrainingInputs& inputs,
                                                                  const TrainingSpec& spec);

  // Begins to fill block `block`; its rows so far are forgotten.
  void BeginBlock(uint64_t block);
  // Forwards the next micro-batch of contexts. True when the block is full and shuffled.
  //
  //   errors  FailedPrecondition  activations that are not finite, naming the context; a block with
  //                               fewer rows than a batch
  absl::StatusOr<bool> FillSome(const CancelToken& cancel);

  uint64_t block() const { return block_; }
  // Of the full block; a rest that is less than a batch is left out.
  int64_t n_batches() const { return static_cast<int64_t>(order_.size()) / batch_size_; }
  // Writes batch `i`, scaled, to `x`, float32 [batch_size, d_in], and, of a transcoder, to `y`
  // [batch_size, d_out].   REQUIRES: the block is full, i < n_batches().
  void CopyBatch(int64_t i, const DataScales& scales, torch::Tensor& x, torch::Tensor& y) const;
  // What the spec's input_scaling says for the rows of the block.  REQUIRES: the block is full.
  DataScales MeasureScales() const;

  const TrainingWidths& widths() const { return widths_; }
  // Of a stream of a resolved spec.
  static uint64_t MemoryBytes(const TrainingSpec& resolved, const TrainingWidths& widths);
  // Tokens forwarded since the stream was made.
  uint64_t tokens_forwarded() const { return tokens_forwarded_; }

 private:
  ActivationStream(const TrainingInputs& inputs, const TrainingSpec& spec,
                   const TrainingWidths& widths);

  // The context at place `i` of all rounds through the corpus.
  uint64_t ContextAt(uint64_t i) const;
  // Makes room for a block's rows.
  void Allocate();
  absl::Status ForwardContexts(uint64_t begin, uint64_t end, const CancelToken& cancel);
  // Appends the indices of a context's tokens that are trained on, counted from `first`.
  void AppendKept(const std::vector<uint32_t>& ids, int64_t first,
                  std::vector<int64_t>* kept) const;
  absl::Status KeepRows(const HookPoint& hook, const torch::Tensor& activations,
                        const torch::Tensor& kept, uint64_t first_context, torch::Tensor* rows);

  const TrainingInputs inputs_;
  const uint64_t seed_;
  const TrainingWidths widths_;
  const int64_t batch_size_;
  const InputScaling scaling_;
  const TokenPositions positions_;
  const TokenFilter filter_;
  uint64_t contexts_per_block_ = 0;
  uint64_t contexts_per_forward_ = 0;

  torch::Tensor rows_;     // [capacity, d_in]
  torch::Tensor targets_;  // [capacity, d_out]; transcoders
  int64_t n_rows_ = 0;
  std::vector<int64_t> order_;  // of the full block
  uint64_t block_ = 0;
  uint64_t next_context_ = 0;  // within the block
  uint64_t tokens_forwarded_ = 0;
};

}  // namespace featurescope
