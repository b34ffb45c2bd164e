#include "server/train/activation_stream.h"

#include <cmath>
#include <utility>

#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/train/model_source.h"
#include "server/train/shuffle.h"

namespace featurescope {
namespace {

constexpr uint64_t kRowStream = 0x726f7773;  // no other use of the run's seed shares it

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationStream>> ActivationStream::Create(
    const TrainingInputs& inputs, const std::vector<HookPoint>& hooks, const TrainingSpec& spec) {
  ASSIGN_OR_RETURN(std::unique_ptr<ActivationSource> source,
                   MakeActivationSource(inputs, hooks, spec));
  return std::unique_ptr<ActivationStream>(new ActivationStream(std::move(source), spec));
}

ActivationStream::ActivationStream(std::unique_ptr<ActivationSource> source,
                                   const TrainingSpec& spec)
    : source_(std::move(source)),
      seed_(spec.seed),
      batch_size_(spec.batch_size),
      rows_(source_->widths().size()) {}

uint64_t ActivationStream::MemoryBytes(const TrainingSpec& resolved, int64_t width) {
  return sizeof(float) * static_cast<uint64_t>(width) *
         (resolved.buffer_tokens + kMaxMicroBatchTokens);
}

void ActivationStream::BeginBlock(uint64_t block) {
  block_ = block;
  next_piece_ = 0;
  n_rows_ = 0;
  order_.clear();
}

void ActivationStream::Allocate() {
  const int64_t capacity = source_->MaxRows(block_);
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].defined() && rows_[i].size(0) >= capacity) continue;
    rows_[i] = torch::Tensor();  // before the new one is there
    rows_[i] = torch::empty({capacity, widths()[i]},
                            torch::TensorOptions().dtype(torch::kFloat32).device(device()));
  }
}

absl::StatusOr<bool> ActivationStream::FillSome(const CancelToken& cancel) {
  if (next_piece_ == 0) {
    RETURN_IF_ERROR(TorchGate("allocating the activation buffer", [&] { Allocate(); }));
  }
  ASSIGN_OR_RETURN(const bool last, source_->Read(block_, next_piece_, cancel, &rows_, &n_rows_));
  ++next_piece_;
  if (!last) return false;
  if (n_rows_ < batch_size_) {
    return FailedPrecondition("block ", block_, " of the activations has only ", n_rows_,
                              " tokens that are not special, fewer than a batch of ", batch_size_);
  }
  order_.resize(n_rows_);
  for (int64_t i = 0; i < n_rows_; ++i) order_[i] = i;
  ShuffleInPlace(order_, Mix64(seed_ ^ kRowStream) ^ Mix64(block_));
  return true;
}

void ActivationStream::CopyBatch(int64_t i, size_t channel, InputScaling scaling, double scale,
                                 torch::Tensor& out) const {
  const auto first = order_.begin() + i * batch_size_;
  const torch::Tensor index =
      torch::tensor(std::vector<int64_t>(first, first + batch_size_), torch::kInt64).to(device());
  at::index_select_out(out, rows_[channel], 0, index);
  ScaleTokens(scaling, out);
  if (scale != 1) out.mul_(scale);
}

double ActivationStream::MeasureScale(size_t channel, InputScaling scaling) const {
  const torch::Tensor& rows = rows_[channel];
  const auto norms = rows.slice(0, 0, n_rows_).norm(2, {1}).to(torch::kFloat64);
  double size = 0;
  double wanted = 1;
  if (scaling == InputScaling::kSqrtWidth) {
    size = norms.mean().item<double>();
    wanted = std::sqrt(static_cast<double>(rows.size(1)));
  } else if (scaling == InputScaling::kUnitMeanSquare) {
    size = std::sqrt(norms.pow(2).mean().item<double>());
  }
  return size > 0 ? wanted / size : 1.0;
}

void ScaleTokens(InputScaling scaling, torch::Tensor& x) {
  if (scaling == InputScaling::kLayerNorm) {
    x.sub_(x.mean(1, /*keepdim=*/true));
    x.div_(x.std(1, /*unbiased=*/true, /*keepdim=*/true).add_(1e-5));
  } else if (scaling == InputScaling::kConstantNorm) {
    const double root = std::sqrt(static_cast<double>(x.size(1)));
    x.mul_(root / x.norm(2, {1}, /*keepdim=*/true).clamp_min_(1e-30));
  }
}

}  // namespace featurescope
