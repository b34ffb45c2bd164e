// Activations of a model on one corpus or a mixture of them, forwarded as they are needed.
//
// A corpus' contexts are visited in a seeded order, another one in each round through it. Positions
// of special tokens are left out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/train/activation_source.h"

namespace featurescope {

// Tokens of one forward pass at most, unless one context has more.
constexpr uint64_t kMaxMicroBatchTokens = 4096;

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

// The tokens of one pass over all corpora that `spec` trains on; special tokens within contexts are
// counted, unless one token of each context is all that is trained on.
//   errors  those of reading a corpus
absl::StatusOr<uint64_t> TokensOfOneEpoch(const TrainingInputs& inputs, const TrainingSpec& spec);

// Which context of which corpus comes at each place, so that the shares of the corpora are their
// weights: exactly in every kSlots contexts.
class ContextOrder {
 public:
  enum class Kind {
    kShuffled,
    kInOrder,  // of the first corpus alone, once
  };
  ContextOrder(const TrainingInputs& inputs, uint64_t seed, Kind kind);

  struct Place {
    const TokenFile* corpus;
    uint64_t context;
  };
  Place At(uint64_t i) const;

 private:
  static constexpr uint64_t kSlots = 1024;

  const uint64_t seed_;
  const Kind kind_;
  std::vector<const TokenFile*> corpora_;
  std::vector<uint64_t> counts_;  // of each corpus among the slots
  std::vector<uint32_t> slots_;   // the corpus of each slot
  std::vector<uint64_t> ranks_;   // how many slots before have the same corpus
};

class ModelSource : public ActivationSource {
 public:
  static absl::StatusOr<std::unique_ptr<ModelSource>> Create(const TrainingInputs& inputs,
                                                             const std::vector<HookPoint>& hooks,
                                                             const TrainingSpec& spec,
                                                             ContextOrder::Kind order);

  int64_t MaxRows(uint64_t block) const override;
  absl::StatusOr<bool> Read(uint64_t block, uint64_t piece, const CancelToken& cancel,
                            std::vector<torch::Tensor>* rows, int64_t* n_rows) override;
  torch::Device device() const override { return inputs_.model->device(); }

  uint64_t contexts_per_block() const { return contexts_per_block_; }
  // Forwards contexts of one corpus, [begin, end), in order, as Read does.
  absl::Status ForwardContexts(const std::vector<ContextOrder::Place>& places,
                               const CancelToken& cancel, std::vector<torch::Tensor>* rows,
                               int64_t* n_rows);
  uint64_t contexts_per_forward() const { return contexts_per_forward_; }

 private:
  ModelSource(const TrainingInputs& inputs, const std::vector<HookPoint>& hooks,
              const TrainingSpec& spec, ContextOrder::Kind order);

  absl::Status KeepRows(const HookPoint& hook, const torch::Tensor& activations,
                        const torch::Tensor& kept, const ContextOrder::Place& first, int64_t n_rows,
                        torch::Tensor* rows) const;

  const TrainingInputs inputs_;
  const std::vector<HookPoint> hooks_;
  const TokenPositions positions_;
  const TokenFilter filter_;
  const ContextOrder order_;
  uint64_t contexts_per_block_ = 0;
  uint64_t contexts_per_forward_ = 0;
};

}  // namespace featurescope
