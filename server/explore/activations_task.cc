#include "server/explore/activations_task.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/status.h"
#include "server/catalog/hook_values.h"
#include "server/model/hooks.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

constexpr int64_t kSliceTokens = 2048;  // of one task in one turn
constexpr int64_t kEncodeRows = 1024;   // encoded at a time, which bounds their sparse rows

// Whether only the requested features are encoded.
bool EncodesFeaturesOnly(const ActivationsRequest& request) {
  return !request.statistics && std::holds_alternative<TheseFeatures>(request.selection);
}

// Empty where a request must run alone: what such an SAE gives depends on what it encodes together.
std::string BatchKey(const ActivationsRequest& request, const ActivationSelection& in_order) {
  for (const SaeRef& sae : request.saes) {
    if (sae.sae->config().whole_batch) return "";
  }
  std::string key =
      absl::StrCat("activations:", reinterpret_cast<uintptr_t>(request.model.model.get()));
  for (const SaeRef& sae : request.saes) {
    absl::StrAppend(&key, ":", reinterpret_cast<uintptr_t>(sae.sae.get()), "@", sae.hook.name(),
                    ">", sae.output_hook().name(), sae.center_writing_weights ? ":centred" : "");
  }
  absl::StrAppend(&key, request.statistics ? ":statistics" : "");
  if (EncodesFeaturesOnly(request)) {
    for (const uint32_t feature : std::get<TheseFeatures>(in_order).ids) {
      absl::StrAppend(&key, ":", feature);
    }
  }
  return key;
}

}  // namespace

// One packed pass over the slices of tasks with one batch key.
class ActivationsBatch {
 public:
  explicit ActivationsBatch(absl::Span<ActivationsTask* const> tasks);

  // Computes all slices. On an error nothing has changed.
  absl::Status Run();

  // After a good Run: gives the results to the tasks. Those with an error of their own or with no
  // text left have finished.
  void Deliver();

 private:
  struct Text {
    size_t task = 0;
    int64_t first_row = 0;
    std::vector<bool> special;
    std::vector<SaeActivations> results;
  };
  struct Share {
    ActivationsTask* task = nullptr;
    EntryBudget budget;
    absl::Status status;  // of this task alone
  };
  const ActivationsRequest& request() const { return shares_.front().task->request_; }

  // At the SAE's hook: encodes, and keeps the outputs where they are to be measured.
  absl::Status RunSae(size_t s, const torch::Tensor& x);
  absl::Status Collect(size_t s, const torch::Tensor& x);
  absl::StatusOr<SparseRows> EncodeRows(const Sae& sae, const torch::Tensor& x,
                                        torch::Tensor* output) const;
  // At the hook that the SAE writes: compares its outputs with what is there, `y` [rows, d_out].
  void AddExplainedVariance(size_t s, const torch::Tensor& y);

  std::vector<Share> shares_;
  std::vector<Text> texts_;
  SequenceBatch batch_;
  std::vector<torch::Tensor> outputs_;  // of each SAE, float32 [rows, d_out]
  torch::Tensor text_of_row_;           // int64 [rows]
  torch::Tensor ordinary_;              // float32 [rows], 1 where the token is not special
};

ActivationsBatch::ActivationsBatch(absl::Span<ActivationsTask* const> tasks) {
  std::vector<int64_t> text_of_row;
  std::vector<float> ordinary;
  for (ActivationsTask* task : tasks) {
    shares_.push_back({task, task->budget_, absl::OkStatus()});
    for (size_t t = task->slice_begin_; t < task->slice_end_; ++t) {
      Text text;
      text.task = shares_.size() - 1;
      text.first_row = batch_.n_tokens();
      text.results.resize(task->request_.saes.size());
      for (const uint32_t id : task->ids_[t]) {
        text.special.push_back(IsSpecialToken(task->request_.model, id));
        text_of_row.push_back(static_cast<int64_t>(texts_.size()));
        ordinary.push_back(text.special.back() ? 0.0f : 1.0f);
      }
      batch_.Append(task->ids_[t]);
      texts_.push_back(std::move(text));
    }
  }
  const torch::Device device = request().model.model->device();
  text_of_row_ = torch::tensor(text_of_row, torch::kInt64).to(device);
  ordinary_ = torch::tensor(ordinary, torch::kFloat32).to(device);
}

absl::Status ActivationsBatch::Run() {
  const std::vector<SaeRef>& saes = request().saes;
  absl::Status failed;
  HookSet hooks;
  outputs_.resize(saes.size());
  for (size_t s = 0; s < saes.size(); ++s) {
    const bool center = saes[s].center_writing_weights;
    hooks.Add(saes[s].hook, [=, this, &failed](const HookContext& at, torch::Tensor& value) {
      if (failed.ok()) failed = RunSae(s, HookRows(value, at.hook, center));
    });
    if (!request().statistics || saes[s].output_unknown()) continue;
    hooks.Add(saes[s].output_hook(),
              [=, this, &failed](const HookContext& at, torch::Tensor& value) {
                if (failed.ok()) AddExplainedVariance(s, HookRows(value, at.hook, center));
              });
  }
  ForwardOptions options;
  options.hooks = &hooks;
  if (shares_.size() == 1) options.cancel = request().cancel;
  const auto logits = request().model.model->Forward(batch_, options);
  RETURN_IF_ERROR(logits.status());
  return failed;
}

absl::Status ActivationsBatch::RunSae(size_t s, const torch::Tensor& x) {
  for (Text& text : texts_) {
    SaeActivations& result = text.results[s];
    result.sae_id = shares_[text.task].task->request_.saes[s].id;
    result.l0 = std::numeric_limits<float>::quiet_NaN();
    result.explained_variance = std::numeric_limits<float>::quiet_NaN();
  }
  return Collect(s, x);
}

absl::StatusOr<SparseRows> ActivationsBatch::EncodeRows(const Sae& sae, const torch::Tensor& x,
                                                        torch::Tensor* output) const {
  if (!EncodesFeaturesOnly(request())) {
    ASSIGN_OR_RETURN(const EncodedRows encoded, sae.Encode(x));
    if (request().statistics) *output = sae.Decode(encoded);
    return encoded.acts.To(torch::kCPU);
  }
  const std::vector<uint32_t>& features =
      std::get<TheseFeatures>(shares_.front().task->selection_).ids;
  ASSIGN_OR_RETURN(const torch::Tensor acts, sae.EncodeFeatures(x, features));
  SparseRows rows = PositiveEntries(acts.to(torch::kCPU).contiguous());
  rows.n_cols = sae.config().d_sae;
  int32_t* indices = rows.indices.data_ptr<int32_t>();
  for (int64_t i = 0; i < rows.nnz(); ++i) {
    indices[i] = static_cast<int32_t>(features[static_cast<size_t>(indices[i])]);
  }
  return rows;
}

absl::Status ActivationsBatch::Collect(size_t s, const torch::Tensor& x) {
  const Sae& sae = *request().saes[s].sae;
  const int64_t n_rows = x.size(0);
  std::vector<torch::Tensor> outputs;
  SparseRows piece;
  int64_t piece_begin = 0;
  int64_t piece_end = 0;
  for (Text& text : texts_) {
    Share& share = shares_[text.task];
    const ActivationsRequest& asked = share.task->request_;
    ActivationCollector collector(share.task->selection_, asked.min_activation,
                                  static_cast<uint32_t>(sae.config().d_sae), &share.budget);
    int64_t n_ordinary = 0;
    int64_t n_active = 0;
    for (size_t pos = 0; pos < text.special.size(); ++pos) {
      const int64_t row = text.first_row + static_cast<int64_t>(pos);
      if (row == piece_end) {
        piece_begin = piece_end;
        piece_end = std::min(n_rows, piece_begin + kEncodeRows);
        torch::Tensor output;
        ASSIGN_OR_RETURN(
            piece, EncodeRows(sae, x.narrow(0, piece_begin, piece_end - piece_begin), &output));
        outputs.push_back(output);
      }
      const SparseRowView view = RowOf(piece, row - piece_begin);
      if (!text.special[pos]) {
        ++n_ordinary;
        n_active += static_cast<int64_t>(view.values.size());
      }
      if (!share.status.ok()) continue;
      share.status = collector.AddRow(view, text.special[pos] && !asked.include_special_tokens);
    }
    if (share.status.ok()) share.status = collector.Finish(&text.results[s]);
    if (asked.statistics && n_ordinary > 0) {
      text.results[s].l0 = static_cast<float>(n_active) / static_cast<float>(n_ordinary);
    }
  }
  if (request().statistics) outputs_[s] = torch::cat(outputs);
  return absl::OkStatus();
}

void ActivationsBatch::AddExplainedVariance(size_t s, const torch::Tensor& y) {
  const torch::Tensor squared_error = (y - outputs_[s]).square().sum(1);  // [rows]
  outputs_[s] = torch::Tensor();
  const auto n_texts = static_cast<int64_t>(texts_.size());
  const auto sum_by_text = [&](const torch::Tensor& of_rows) {  // [rows] -> float64 [texts]
    return torch::zeros({n_texts}, of_rows.options().dtype(torch::kFloat64))
        .index_add_(0, text_of_row_, (of_rows * ordinary_).to(torch::kFloat64));
  };
  const auto n_ordinary = sum_by_text(torch::ones_like(ordinary_));
  const auto sums = torch::zeros({n_texts, y.size(1)}, y.options())
                        .index_add_(0, text_of_row_, y * ordinary_.unsqueeze(1));
  const auto means = sums / n_ordinary.clamp_min(1).to(torch::kFloat32).unsqueeze(1);
  const auto deviation = (y - means.index_select(0, text_of_row_)).square().sum(1);  // [rows]
  const auto total = sum_by_text(deviation).to(torch::kCPU);
  const auto unexplained = sum_by_text(squared_error).to(torch::kCPU);
  for (int64_t t = 0; t < n_texts; ++t) {
    const double variance = total.data_ptr<double>()[t];
    if (variance > 0) {
      texts_[static_cast<size_t>(t)].results[s].explained_variance =
          static_cast<float>(1.0 - unexplained.data_ptr<double>()[t] / variance);
    }
  }
}

void ActivationsBatch::Deliver() {
  for (Text& text : texts_) {
    shares_[text.task].task->results_.push_back(std::move(text.results));
  }
  for (Share& share : shares_) {
    share.task->budget_ = share.budget;
    share.task->NextSlice();
    if (!share.status.ok()) {
      share.task->Fail(share.status);
    } else if (share.task->slice_tokens_ == 0) {
      share.task->completion_.Set(absl::OkStatus());
    }
  }
}

ActivationsTask::ActivationsTask(const ActivationsRequest& request,
                                 std::vector<std::vector<uint32_t>> ids)
    : request_(request),
      selection_(InOrder(request.selection)),
      ids_(std::move(ids)),
      batch_key_(BatchKey(request, selection_)) {
  budget_.limit = request.max_entries;
  NextSlice();
}

void ActivationsTask::NextSlice() {
  slice_begin_ = slice_end_;
  slice_tokens_ = 0;
  while (slice_end_ < ids_.size()) {
    const auto more = static_cast<int64_t>(ids_[slice_end_].size());
    if (slice_tokens_ > 0 && slice_tokens_ + more > kSliceTokens) return;
    slice_tokens_ += more;
    ++slice_end_;
  }
}

std::vector<std::shared_ptr<InteractiveTask>> ActivationsTask::RunBatch(
    absl::Span<const std::shared_ptr<InteractiveTask>> batch) {
  std::vector<ActivationsTask*> tasks;
  for (const auto& task : batch) tasks.push_back(static_cast<ActivationsTask*>(task.get()));
  const auto run = [](absl::Span<ActivationsTask* const> together) {
    return TorchGate("computing activations", [&]() -> absl::Status {
      ActivationsBatch pass(together);
      RETURN_IF_ERROR(pass.Run());
      pass.Deliver();
      return absl::OkStatus();
    });
  };
  if (const absl::Status status = run(tasks); !status.ok()) {
    // Each for itself: one task's trouble (or their common size) must not fail the others.
    for (ActivationsTask* task : tasks) {
      const absl::Status alone = tasks.size() == 1 ? status : run(absl::MakeConstSpan(&task, 1));
      if (!alone.ok()) task->Fail(alone);
    }
  }
  std::vector<std::shared_ptr<InteractiveTask>> again;
  for (const auto& task : batch) {
    if (!static_cast<ActivationsTask&>(*task).completion_.done()) again.push_back(task);
  }
  return again;
}

}  // namespace featurescope
