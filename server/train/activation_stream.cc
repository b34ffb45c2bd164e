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

TokenFilter::TokenFilter(const TrainingInputs& inputs, const TrainingSpec& spec)
    : positions_(spec.positions) {
  if (!spec.exclude_special_tokens) return;
  special_ = inputs.special_tokens;
  if (inputs.corpus->prepend_bos()) special_.push_back(inputs.corpus->bos_id());
  std::sort(special_.begin(), special_.end());
}

bool TokenFilter::IsSpecial(uint32_t token) const {
  return std::binary_search(special_.begin(), special_.end(), token);
}

void TokenFilter::AppendKept(const std::vector<uint32_t>& ids, int64_t first,
                             std::vector<int64_t>* kept) const {
  const auto n = static_cast<int64_t>(ids.size());
  int64_t begin = 0;
  int64_t end = n;
  if (positions_ != TokenPositions::kAll) {
    begin = positions_ == TokenPositions::kMiddle ? n / 2 : n - 1;
    end = begin + 1;
  }
  for (int64_t i = begin; i < end; ++i) {
    if (!IsSpecial(ids[i])) kept->push_back(first + i);
  }
}

absl::StatusOr<uint64_t> CountKeptTokens(const TrainingInputs& inputs, const TrainingSpec& spec) {
  const TokenFilter filter(inputs, spec);
  const ContextRange contexts = inputs.corpus->train_contexts();
  std::vector<int64_t> kept;
  std::vector<uint32_t> ids;
  uint64_t n = 0;
  for (uint64_t i = contexts.begin; i < contexts.end; ++i) {
    RETURN_IF_ERROR(inputs.corpus->Context(i, &ids));
    kept.clear();
    filter.AppendKept(ids, 0, &kept);
    n += kept.size();
  }
  return n;
}

absl::StatusOr<std::unique_ptr<ActivationStream>> ActivationStream::Create(
    const TrainingInputs& inputs, const TrainingSpec& spec) {
  ASSIGN_OR_RETURN(const TrainingWidths widths, WidthsOf(inputs));
  return std::unique_ptr<ActivationStream>(new ActivationStream(inputs, spec, widths));
}

ActivationStream::ActivationStream(const TrainingInputs& inputs, const TrainingSpec& spec,
                                   const TrainingWidths& widths)
    : inputs_(inputs),
      seed_(spec.seed),
      widths_(widths),
      batch_size_(spec.batch_size),
      scaling_(spec.input_scaling),
      positions_(spec.positions),
      filter_(inputs, spec) {
  const TokenFile& corpus = *inputs.corpus;
  // What a context adds to the block on average, an excluded BOS not counted.
  const auto contexts = static_cast<double>(std::max<uint64_t>(corpus.train_contexts().size(), 1));
  double per_context = static_cast<double>(corpus.n_train_tokens()) / contexts;
  if (corpus.prepend_bos() && spec.exclude_special_tokens) per_context -= 1;
  if (positions_ != TokenPositions::kAll) {
    // Contexts whose one token is special give nothing; an epoch, and a block as large as one, has
    // them all.
    const absl::StatusOr<uint64_t> kept = CountKeptTokens(inputs, spec);
    per_context = kept.ok() ? static_cast<double>(*kept) / contexts : 1;
  }
  contexts_per_block_ = static_cast<uint64_t>(
      std::ceil(static_cast<double>(spec.buffer_tokens) / std::max(per_context, 1e-3) - 1e-6));
  contexts_per_forward_ = ContextsPerForward(*inputs.model, corpus.context_size());
}

uint64_t ActivationStream::MemoryBytes(const TrainingSpec& resolved, const TrainingWidths& widths) {
  const int64_t width = widths.d_in + (TraitsOf(resolved).transcoder ? widths.d_out : 0);
  return sizeof(float) * static_cast<uint64_t>(width) *
         (resolved.buffer_tokens + kMaxMicroBatchTokens);
}

uint64_t ActivationStream::ContextAt(uint64_t i) const {
  const uint64_t n = inputs_.corpus->train_contexts().size();
  return Permutation(n, Mix64(seed_ ^ kContextStream) ^ Mix64(i / n))(i % n);
}

void ActivationStream::BeginBlock(uint64_t block) {
  block_ = block;
  next_context_ = 0;
  n_rows_ = 0;
  order_.clear();
}

void ActivationStream::Allocate() {
  const TokenFile& corpus = *inputs_.corpus;
  int64_t capacity = 0;
  for (uint64_t i = 0; i < contexts_per_block_; ++i) {
    capacity += positions_ == TokenPositions::kAll
                    ? corpus.ContextLength(ContextAt(block_ * contexts_per_block_ + i))
                    : 1;
  }
  const auto make = [&](int64_t width, torch::Tensor* rows) {
    if (rows->defined() && rows->size(0) >= capacity) return;
    *rows = torch::Tensor();  // before the new one is there
    *rows =
        torch::empty({capacity, width},
                     torch::TensorOptions().dtype(torch::kFloat32).device(inputs_.model->device()));
  };
  make(widths_.d_in, &rows_);
  if (inputs_.hook_out) make(widths_.d_out, &targets_);
}

absl::StatusOr<bool> ActivationStream::FillSome(const CancelToken& cancel) {
  if (next_context_ == 0) {
    RETURN_IF_ERROR(TorchGate("allocating the activation buffer", [&] { Allocate(); }));
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
    filter_.AppendKept(ids, batch.n_tokens(), &kept);
    batch.Append(ids);
  }
  tokens_forwarded_ += static_cast<uint64_t>(batch.n_tokens());
  torch::Tensor input;
  torch::Tensor target;
  HookSet hooks;
  const bool two = inputs_.hook_out.has_value();
  // What one hook saw may be computed on in place before the other is reached.
  const auto observe = [two](torch::Tensor* out) {
    return [two, out](const HookContext&, torch::Tensor& value) {
      *out = two ? value.detach().clone() : value.detach();
    };
  };
  hooks.Add(inputs_.hook, observe(&input));
  if (two) hooks.Add(*inputs_.hook_out, observe(&target));
  ForwardOptions options;
  options.hooks = &hooks;
  options.cancel = cancel;
  RETURN_IF_ERROR(inputs_.model->Forward(batch, options).status());
  if (!input.defined() || target.defined() != two) {
    return Internal("the forward pass did not reach ", inputs_.hook.name());
  }
  return TorchGate("keeping activations", [&]() -> absl::Status {
    const torch::Tensor index = torch::tensor(kept, torch::kInt64).to(input.device());
    const uint64_t first_context = block_ * contexts_per_block_ + begin;
    RETURN_IF_ERROR(KeepRows(inputs_.hook, input, index, first_context, &rows_));
    if (two) {
      RETURN_IF_ERROR(KeepRows(*inputs_.hook_out, target, index, first_context, &targets_));
    }
    n_rows_ += index.numel();
    return absl::OkStatus();
  });
}

absl::Status ActivationStream::KeepRows(const HookPoint& hook, const torch::Tensor& activations,
                                        const torch::Tensor& kept, uint64_t first_context,
                                        torch::Tensor* rows) {
  if (kept.numel() == 0) return absl::OkStatus();
  torch::Tensor destination = rows->slice(0, n_rows_, n_rows_ + kept.numel());
  destination.copy_(activations.reshape({-1, rows->size(1)}).index_select(0, kept));
  if (!torch::isfinite(destination).all().item<bool>()) {
    return FailedPrecondition("the model's activations at ", hook.name(),
                              " are not finite, in or after context ", ContextAt(first_context),
                              " of the corpus");
  }
  return absl::OkStatus();
}

void ActivationStream::CopyBatch(int64_t i, const DataScales& scales, torch::Tensor& x,
                                 torch::Tensor& y) const {
  const auto first = order_.begin() + i * batch_size_;
  const torch::Tensor index =
      torch::tensor(std::vector<int64_t>(first, first + batch_size_), torch::kInt64)
          .to(rows_.device());
  at::index_select_out(x, rows_, 0, index);
  if (scaling_ == InputScaling::kLayerNorm) {
    x.sub_(x.mean(1, /*keepdim=*/true));
    x.div_(x.std(1, /*unbiased=*/true, /*keepdim=*/true).add_(1e-5));
  } else if (scaling_ == InputScaling::kConstantNorm) {
    const double root = std::sqrt(static_cast<double>(widths_.d_in));
    x.mul_(root / x.norm(2, {1}, /*keepdim=*/true).clamp_min_(1e-30));
  }
  if (scales.input != 1) x.mul_(scales.input);
  if (!targets_.defined()) return;
  at::index_select_out(y, targets_, 0, index);
  if (scales.target != 1) y.mul_(scales.target);
}

DataScales ActivationStream::MeasureScales() const {
  const auto scale_of = [&](const torch::Tensor& buffer) {
    const auto norms = buffer.slice(0, 0, n_rows_).norm(2, {1}).to(torch::kFloat64);
    double size = 0;
    double wanted = 1;
    if (scaling_ == InputScaling::kSqrtWidth) {
      size = norms.mean().item<double>();
      wanted = std::sqrt(static_cast<double>(buffer.size(1)));
    } else if (scaling_ == InputScaling::kUnitMeanSquare) {
      size = std::sqrt(norms.pow(2).mean().item<double>());
    }
    return size > 0 ? wanted / size : 1.0;
  };
  DataScales scales;
  scales.input = scale_of(rows_);
  scales.target = targets_.defined() ? scale_of(targets_) : scales.input;
  return scales;
}

}  // namespace featurescope
