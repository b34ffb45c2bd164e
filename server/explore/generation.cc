#include "server/explore/generation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/base/status.h"
#include "server/explore/edit_plan.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {

// One packed pass: the tokens that the model has not yet seen of all rows of some tasks.
class GenerationStep {
 public:
  // On an error nothing has changed.
  static absl::Status Run(absl::Span<GenerationTask* const> tasks) {
    return TorchGate("generating", [&]() -> absl::Status {
      GenerationStep step(tasks);
      ASSIGN_OR_RETURN(const torch::Tensor logits, step.Forward());
      step.plan_.Commit();
      step.Sample(logits);
      return absl::OkStatus();
    });
  }

 private:
  struct Entry {
    GenerationTask* task = nullptr;
    GenerationTask::Row* row = nullptr;
  };

  explicit GenerationStep(absl::Span<GenerationTask* const> tasks) : tasks_(tasks) {
    for (GenerationTask* task : tasks) {
      for (GenerationTask::Row& row : task->rows_) {
        if (!row.finished) AddRow(*task, row);
      }
    }
  }

  void AddRow(GenerationTask& task, GenerationTask::Row& row) {
    if (row.cache == nullptr) row.cache = task.request_.model.model->NewCache();
    if (row.branch == Branch::kSteered) {
      for (size_t p = row.n_fed; p < row.ids.size(); ++p) AddEdits(task, row, p);
    }
    batch_.Append(absl::MakeConstSpan(row.ids).subspan(row.n_fed), row.cache.get());
    entries_.push_back({&task, &row});
  }

  void AddEdits(GenerationTask& task, const GenerationTask::Row& row, size_t position) {
    const std::vector<Intervention>& edits = task.request_.interventions;
    if (edits.empty()) return;
    const bool special = IsSpecialToken(task.request_.model, row.ids[position]);
    const auto at = static_cast<uint32_t>(position);
    std::vector<size_t> applying;
    for (size_t i = 0; i < edits.size(); ++i) {
      if (AppliesTo(edits[i].positions, at, task.n_prompt_, special)) applying.push_back(i);
    }
    if (applying.empty()) return;
    plan_.Add(batch_.n_tokens() + static_cast<int64_t>(position - row.n_fed), at, edits, applying,
              &task.proofs_);
  }

  // Logits on the CPU, [entries, d_vocab].
  absl::StatusOr<torch::Tensor> Forward() {
    HookSet hooks;
    plan_.AddHooks(&hooks);
    ForwardOptions options;
    options.hooks = &hooks;
    options.logits = LogitsOf::kLastToken;
    if (tasks_.size() == 1) options.cancel = tasks_.front()->request_.cancel;
    auto logits = tasks_.front()->request_.model.model->Forward(batch_, options);
    RETURN_IF_ERROR(plan_.status());
    RETURN_IF_ERROR(logits.status());
    return logits->to(torch::kCPU);
  }

  void Sample(const torch::Tensor& logits) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      auto& [task, row] = entries_[i];
      row->n_fed = row->ids.size();
      task->Accept(*row, row->sampler->Next(logits[static_cast<int64_t>(i)],
                                            static_cast<int>(task->request_.top_logprobs)));
    }
    for (GenerationTask* task : tasks_) task->CountTokens();
  }

  const absl::Span<GenerationTask* const> tasks_;
  SequenceBatch batch_;
  EditPlan plan_;
  std::vector<Entry> entries_;
};

GenerationTask::GenerationTask(GenerateRequest request, std::vector<uint32_t> prompt,
                               ByteBudget::Reservation cache_bytes)
    : request_(std::move(request)),
      cache_bytes_(std::move(cache_bytes)),
      n_prompt_(static_cast<uint32_t>(prompt.size())),
      batch_key_(
          absl::StrCat("generate:", reinterpret_cast<uintptr_t>(request_.model.model.get()))),
      proofs_(request_.interventions.size()) {
  rows_.resize(request_.with_baseline ? 2 : 1);
  for (size_t i = 0; i < rows_.size(); ++i) {
    rows_[i].branch = i == 0 ? Branch::kSteered : Branch::kBaseline;
    rows_[i].ids = prompt;
    rows_[i].sampler = std::make_unique<Sampler>(request_.sampling);
  }
  CountTokens();
}

std::vector<std::shared_ptr<InteractiveTask>> GenerationTask::RunBatch(
    absl::Span<const std::shared_ptr<InteractiveTask>> batch) {
  std::vector<GenerationTask*> tasks;
  for (const auto& entry : batch) {
    auto* task = static_cast<GenerationTask*>(entry.get());
    if (task->abandoned_.load(std::memory_order_relaxed)) {
      task->End(absl::CancelledError("the receiver stopped the generation"));
    } else {
      tasks.push_back(task);
    }
  }
  if (tasks.empty()) return {};
  if (const absl::Status status = GenerationStep::Run(tasks); !status.ok()) {
    // Each for itself: one task's trouble must not fail the others.
    for (GenerationTask* task : tasks) {
      const absl::Status alone =
          tasks.size() == 1 ? status : GenerationStep::Run(absl::MakeConstSpan(&task, 1));
      if (!alone.ok()) task->End(alone);
    }
  }
  std::vector<std::shared_ptr<InteractiveTask>> again;
  for (const auto& entry : batch) {
    if (!static_cast<GenerationTask&>(*entry).ended()) again.push_back(entry);
  }
  return again;
}

void GenerationTask::Accept(Row& row, SampledToken sampled) {
  const uint32_t token = sampled.chosen.token;
  if (!std::isfinite(sampled.chosen.logprob)) {
    End(FailedPrecondition("the model's output is not finite at position ", row.ids.size(),
                           request_.interventions.empty() ? "" : ": use smaller values to edit"));
    return;
  }
  row.ids.push_back(token);
  Tell(BranchToken{row.branch, std::move(sampled)});
  if (const auto reason = FinishReasonAfter(row, token); reason.has_value()) Finish(row, *reason);
}

std::optional<FinishReason> GenerationTask::FinishReasonAfter(Row& row, uint32_t token) const {
  const ModelConfig& config = request_.model.model->config();
  const bool ends =
      std::find(config.eos_ids.begin(), config.eos_ids.end(), token) != config.eos_ids.end() ||
      (request_.model.tokenizer != nullptr && request_.model.tokenizer->eos_id() == token);
  if (ends) return FinishReason::kEndOfText;
  if (CompletesStopString(row, token)) return FinishReason::kStopString;
  if (row.ids.size() - n_prompt_ >= request_.max_new_tokens) return FinishReason::kLength;
  if (static_cast<int64_t>(row.ids.size()) >= config.n_ctx) return FinishReason::kContextFull;
  return std::nullopt;
}

bool GenerationTask::CompletesStopString(Row& row, uint32_t token) const {
  if (request_.stop_strings.empty()) return false;
  row.tail += request_.model.tokenizer->TokenBytes(token);
  size_t longest = 0;
  for (const std::string& stop : request_.stop_strings) {
    if (row.tail.find(stop) != std::string::npos) return true;
    longest = std::max(longest, stop.size());
  }
  if (row.tail.size() >= longest) row.tail.erase(0, row.tail.size() - (longest - 1));
  return false;
}

void GenerationTask::Finish(Row& row, FinishReason reason) {
  GenerateFinished finished;
  finished.branch = row.branch;
  finished.reason = reason;
  if (row.branch == Branch::kSteered) {
    for (size_t i = 0; i < proofs_.size(); ++i) {
      if (!proofs_[i].positions.empty()) continue;
      End(FailedPrecondition("interventions[", i, "] matched no position: the text ended after ",
                             row.ids.size(), " tokens, ", n_prompt_, " of them the prompt"));
      return;
    }
    finished.proofs = std::move(proofs_);
  }
  row.finished = true;
  row.cache.reset();
  Tell(std::move(finished));
  const bool all = std::all_of(rows_.begin(), rows_.end(), [](const Row& r) { return r.finished; });
  if (all) End(absl::OkStatus());
}

void GenerationTask::CountTokens() {
  n_tokens_ = 0;
  for (const Row& row : rows_) {
    if (!row.finished) n_tokens_ += static_cast<int64_t>(row.ids.size() - row.n_fed);
  }
}

void GenerationTask::Tell(GenerationNews news) {
  MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  news_.push_back(std::move(news));
  changed_.Signal();
}

void GenerationTask::End(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  end_ = status;
  changed_.Signal();
}

bool GenerationTask::ended() const {
  MutexLock lock(&mutex_);
  return end_.has_value();
}

std::optional<GenerationNews> GenerationTask::Next() {
  MutexLock lock(&mutex_);
  while (news_.empty() && !end_.has_value()) changed_.Wait(&mutex_);
  if (news_.empty()) return std::nullopt;
  std::optional<GenerationNews> first(std::move(news_.front()));
  news_.pop_front();
  return first;
}

absl::Status GenerationTask::status() const {
  MutexLock lock(&mutex_);
  return end_.value_or(absl::OkStatus());
}

}  // namespace featurescope
