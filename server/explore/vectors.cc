#include "server/explore/vectors.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "server/base/status.h"
#include "server/engine/completion.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

constexpr uint64_t kRowsPerTask = 1024;
// Activations that one call may return: some hundred megabytes.
constexpr size_t kMaxEntriesPerCall = 32'000'000;

absl::Status CheckFinite(absl::Span<const float> values, uint64_t width, absl::string_view what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return InvalidArgument(what, " ", i / width, " is not finite: value ", i % width, " is ",
                             values[i]);
    }
  }
  return absl::OkStatus();
}

// Some rows of one EncodeVectors call. The caller waits, so that what is referred to stays.
class EncodeTask : public InteractiveTask {
 public:
  EncodeTask(std::shared_ptr<const Sae> sae, absl::Span<const float> vectors, bool reconstruct,
             CancelToken cancel, EncodedVectors* out)
      : sae_(std::move(sae)),
        vectors_(vectors),
        reconstruct_(reconstruct),
        cancel_(std::move(cancel)),
        out_(out),
        batch_key_(sae_->config().whole_batch
                       ? ""
                       : absl::StrCat("encode:", reinterpret_cast<uintptr_t>(sae_.get()), ":",
                                      reconstruct ? "reconstruct" : "")) {}

  const std::string& batch_key() const override { return batch_key_; }
  int64_t n_tokens() const override {
    return static_cast<int64_t>(vectors_.size()) / sae_->config().d_in;
  }
  const CancelToken& cancel() const override { return cancel_; }

  std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>> batch) override {
    std::vector<EncodeTask*> tasks;
    for (const auto& task : batch) tasks.push_back(static_cast<EncodeTask*>(task.get()));
    const absl::Status status =
        TorchGate("encoding vectors", [&] { return EncodeTogether(tasks); });
    for (EncodeTask* task : tasks) task->completion_.Set(status);
    return {};
  }
  void Fail(const absl::Status& status) override { completion_.Set(status); }
  absl::Status Wait() { return completion_.Wait(); }

 private:
  torch::Tensor Rows() const {  // float32 [n, d_in], on the CPU
    return torch::from_blob(const_cast<float*>(vectors_.data()), {n_tokens(), sae_->config().d_in},
                            torch::kFloat32);
  }

  absl::Status EncodeTogether(const std::vector<EncodeTask*>& tasks) {
    std::vector<torch::Tensor> parts;
    for (const EncodeTask* task : tasks) parts.push_back(task->Rows());
    const torch::Tensor x = torch::cat(parts).to(sae_->device());  // [rows of all tasks, d_in]
    ASSIGN_OR_RETURN(const EncodedRows encoded, sae_->Encode(x));
    const SparseRows acts = encoded.acts.To(torch::kCPU);
    torch::Tensor x_hat;
    if (reconstruct_) x_hat = sae_->Decode(encoded).to(torch::kCPU).contiguous();
    int64_t begin = 0;
    for (EncodeTask* task : tasks) {
      const int64_t end = begin + task->n_tokens();
      AppendRows(acts.Slice(begin, end), &task->out_->feature_acts);
      if (reconstruct_) {
        const int64_t d_out = sae_->config().d_out;
        const float* first = x_hat.data_ptr<float>() + begin * d_out;
        task->out_->sae_out.insert(task->out_->sae_out.end(), first,
                                   first + task->n_tokens() * d_out);
      }
      begin = end;
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<const Sae> sae_;
  const absl::Span<const float> vectors_;
  const bool reconstruct_;
  const CancelToken cancel_;
  EncodedVectors* const out_;
  const std::string batch_key_;
  Completion completion_;
};

}  // namespace

absl::StatusOr<EncodedVectors> EncodeVectors(const std::shared_ptr<const Sae>& sae,
                                             absl::Span<const float> vectors, uint64_t n_vectors,
                                             bool reconstruct, const CancelToken& cancel,
                                             DeviceWorker& worker) {
  const auto d_in = static_cast<uint64_t>(sae->config().d_in);
  if (vectors.size() / d_in != n_vectors || vectors.size() % d_in != 0) {
    return InvalidArgument("vectors holds ", vectors.size(), " values, which is not ", n_vectors,
                           " rows of d_in ", d_in);
  }
  RETURN_IF_ERROR(CheckFinite(vectors, d_in, "vector"));
  EncodedVectors encoded;
  encoded.feature_acts.n_cols = static_cast<uint32_t>(sae->config().d_sae);
  for (uint64_t begin = 0; begin < n_vectors; begin += kRowsPerTask) {
    const uint64_t n_rows = std::min(kRowsPerTask, n_vectors - begin);
    auto task = std::make_shared<EncodeTask>(sae, vectors.subspan(begin * d_in, n_rows * d_in),
                                             reconstruct, cancel, &encoded);
    RETURN_IF_ERROR(worker.Post(task));
    RETURN_IF_ERROR(task->Wait());
    if (encoded.feature_acts.indices.size() > kMaxEntriesPerCall) {
      return ResourceExhausted("the vectors have more than ", kMaxEntriesPerCall,
                               " activations: encode fewer at a time");
    }
  }
  return encoded;
}

absl::StatusOr<std::vector<float>> DecodeVectors(const std::shared_ptr<const Sae>& sae,
                                                 const SparseActivations& feature_acts,
                                                 const CancelToken& cancel, DeviceWorker& worker) {
  const int64_t d_sae = sae->config().d_sae;
  if (feature_acts.n_cols != d_sae) {
    return InvalidArgument("n_cols is ", feature_acts.n_cols, ", the SAE has d_sae ", d_sae);
  }
  RETURN_IF_ERROR(Validate(feature_acts));
  RETURN_IF_ERROR(CheckFinite(feature_acts.values, 1, "activation"));
  std::vector<float> out;
  for (size_t begin = 0; begin < feature_acts.n_rows(); begin += kRowsPerTask) {
    const size_t end = std::min<size_t>(feature_acts.n_rows(), begin + kRowsPerTask);
    const SparseRows rows = ToSparseRows(feature_acts, begin, end);
    RETURN_IF_ERROR(worker.RunInteractive(cancel, [&] {
      return TorchGate("decoding vectors", [&] {
        const torch::Tensor x_hat =
            sae->Decode(rows.To(sae->device())).to(torch::kCPU).contiguous();
        out.insert(out.end(), x_hat.data_ptr<float>(), x_hat.data_ptr<float>() + x_hat.numel());
      });
    }));
  }
  return out;
}

}  // namespace featurescope
