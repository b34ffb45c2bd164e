#include "server/train/activation_stream.h"

#include <algorithm>
#include <cmath>

#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/train/shuffle.h"

namespace featurescope {
namespace {

// Work of one forward pass, in multiplications of the model's weights with tokens: some 100 ms.
constexpr double kForwardWorkCpu = 5e9;
constexpr double kForwardWorkCuda = 5e12;

// Streams of seeds, so that no two uses of the run's seed share one.
constexpr uint64_t kContextStream = 0x636f6e7465787473;
constexpr uint64_t kRowStream = 0x726f7773;

// A number that depends only on the model and the device, never on timing: floating-point results
// may depend on how tokens are batched.
uint64_t ContextsPerForward(const Transformer& model, uint32_t context_size) {
  const double work = model.device().is_cpu() ? kForwardWorkCpu : kForwardWorkCuda;
  const double parameters = std::max<double>(static_cast<double>(model.n_parameters()), 1.0);
  const double tokens = std::min(work / parameters, static_cast<double>(kMaxMicroBatchTokens));
  return std::max<uint64_t>(static_cast<uint64_t>(tokens) / context_size, 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationStream>> ActivationStream::Create(
    const TrainingInputs& inputs, const TrainingSpec& spec) {
  ASSIGN_OR_RETURN(const int64_t d_in, inputs.model->config().HookWidth(inputs.hook));
  return std::unique_ptr<ActivationStream>(new ActivationStream(inputs, spec, d_in));
}

ActivationStream::ActivationStream(const TrainingInputs& inputs, const TrainingSpec& spec,
                                   int64_t d_in)
    : inputs_(inputs),
      seed_(spec.seed),
      d_in_(d_in),
      batch_size_(spec.batch_size),
      special_(inputs.special_tokens) {
  const TokenFile& corpus = *inputs.corpus;
  if (corpus.prepend_bos()) special_.push_back(corpus.bos_id());
  std::sort(special_.begin(), special_.end());
  // What a context adds to the block, its BOS not counted.
  const uint64_t per_context =
      std::max<uint64_t>(corpus.context_size() - (corpus.prepend_bos() ? 1 : 0), 1);
  contexts_per_block_ = (spec.buffer_tokens + per_context - 1) / per_context;
  contexts_per_forward_ = ContextsPerForward(*inputs.model, corpus.context_size());
}

uint64_t ActivationStream::ContextAt(uint64_t i) const {
  const uint64_t n = inputs_.corpus->n_contexts();
  return Permutation(n, Mix64(seed_ ^ kContextStream) ^ Mix64(i / n))(i % n);
}

bool ActivationStream::IsSpecial(uint32_t token) const {
  return std::binary_search(special_.begin(), special_.end(), token);
}

void ActivationStream::BeginBlock(uint64_t block) {
  block_ = block;
  next_context_ = 0;
  n_rows_ = 0;
  order_.clear();
}

absl::StatusOr<bool> ActivationStream::FillSome(const CancelToken& cancel) {
  if (!rows_.defined()) {
    const auto capacity =
        static_cast<int64_t>(contexts_per_block_ * inputs_.corpus->context_size());
    RETURN_IF_ERROR(TorchGate("allocating the activation buffer", [&] {
      rows_ = torch::empty(
          {capacity, d_in_},
          torch::TensorOptions().dtype(torch::kFloat32).device(inputs_.model->device()));
    }));
  }
  const uint64_t begin = next_context_;
  const uint64_t end = std::min(begin + contexts_per_forward_, contexts_per_block_);
  RETURN_IF_ERROR(ForwardContexts(begin, end, cancel));
  next_context_ = end;
  if (end < contexts_per_block_) return false;
  if (n_rows_ < batch_size_) {
    return FailedPrecondition("block ", block_, " of the corpus has only ", n_rows_,
                              " tokens that are not special, fewer than a batch of ", batch_size_);
  }
  order_.resize(n_rows_);
  for (int64_t i = 0; i < n_rows_; ++i) order_[i] = i;
  ShuffleInPlace(order_, Mix64(seed_ ^ kRowStream) ^ Mix64(block_));
  return true;
}

absl::Status ActivationStream::ForwardContexts(uint64_t begin, uint64_t end,
                                               const CancelToken& cancel) {
  SequenceBatch batch;
  std::vector<int64_t> kept;
  std::vector<uint32_t> ids;
  for (uint64_t i = begin; i < end; ++i) {
    RETURN_IF_ERROR(inputs_.corpus->Context(ContextAt(block_ * contexts_per_block_ + i), &ids));
    for (size_t j = 0; j < ids.size(); ++j) {
      if (!IsSpecial(ids[j])) kept.push_back(batch.n_tokens() + static_cast<int64_t>(j));
    }
    batch.Append(ids);
  }
  tokens_forwarded_ += static_cast<uint64_t>(batch.n_tokens());
  torch::Tensor activations;
  HookSet hooks;
  hooks.Add(inputs_.hook,
            [&](const HookContext&, torch::Tensor& value) { activations = value.detach(); });
  ForwardOptions options;
  options.hooks = &hooks;
  options.cancel = cancel;
  RETURN_IF_ERROR(inputs_.model->Forward(batch, options).status());
  if (!activations.defined()) {
    return Internal("the forward pass did not reach ", inputs_.hook.name());
  }
  return TorchGate("keeping activations", [&] {
    return KeepRows(activations.reshape({batch.n_tokens(), d_in_}), kept,
                    block_ * contexts_per_block_ + begin);
  });
}

absl::Status ActivationStream::KeepRows(const torch::Tensor& activations,
                                        const std::vector<int64_t>& kept, uint64_t first_context) {
  const auto n = static_cast<int64_t>(kept.size());
  if (n == 0) return absl::OkStatus();
  const torch::Tensor index = torch::tensor(kept, torch::kInt64).to(activations.device());
  torch::Tensor destination = rows_.slice(0, n_rows_, n_rows_ + n);
  destination.copy_(activations.index_select(0, index));
  if (!torch::isfinite(destination).all().item<bool>()) {
    return FailedPrecondition("the model's activations at ", inputs_.hook.name(),
                              " are not finite, in or after context ", ContextAt(first_context),
                              " of the corpus");
  }
  n_rows_ += n;
  return absl::OkStatus();
}

void ActivationStream::CopyBatch(int64_t i, double scale, torch::Tensor& out) const {
  const auto first = order_.begin() + i * batch_size_;
  const torch::Tensor index =
      torch::tensor(std::vector<int64_t>(first, first + batch_size_), torch::kInt64)
          .to(rows_.device());
  at::index_select_out(out, rows_, 0, index);
  if (scale != 1) out.mul_(scale);
}

double ActivationStream::MeanNorm() const {
  return rows_.slice(0, 0, n_rows_).norm(2, {1}).mean(torch::kFloat64).item<double>();
}

}  // namespace featurescope
