// A Generate request on the device worker's thread: one step of it and of its company at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "server/engine/device_worker.h"
#include "server/base/mutex.h"
#include "server/explore/generate.h"
#include "server/explore/intervention.h"
#include "server/model/kv_cache.h"
#include "server/model/sampling.h"

namespace featurescope {

// What the worker's thread tells the request's.
struct BranchToken {
  Branch branch = Branch::kSteered;
  SampledToken sampled;
};
using GenerationNews = std::variant<BranchToken, GenerateFinished>;

class GenerationTask : public InteractiveTask {
 public:
  // A request that has been checked, and its prompt's token ids.
  GenerationTask(GenerateRequest request, std::vector<uint32_t> prompt,
                 ByteBudget::Reservation cache_bytes);

  const std::string& batch_key() const override { return batch_key_; }
  int64_t n_tokens() const override { return n_tokens_; }
  const CancelToken& cancel() const override { return request_.cancel; }
  std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>> batch) override;
  void Fail(const absl::Status& status) override { End(status); }

  // Waits for the next news, on the request's thread; nothing once the task has ended.
  std::optional<GenerationNews> Next();
  // After Next returned nothing.
  absl::Status status() const;
  // The request's thread waits no longer: the task ends before its next step.
  void Abandon() { abandoned_.store(true, std::memory_order_relaxed); }

 private:
  friend class GenerationStep;

  // One of the texts: with the interventions, or without.
  struct Row {
    Branch branch = Branch::kSteered;
    std::vector<uint32_t> ids;  // prompt and generated
    size_t n_fed = 0;           // of ids: those that the model has seen
    std::unique_ptr<KvCache> cache;
    std::unique_ptr<Sampler> sampler;
    std::string tail;  // the end of the generated text, where a stop string may have begun
    bool finished = false;
  };

  // Takes the token that follows row.ids.
  void Accept(Row& row, SampledToken sampled);
  std::optional<FinishReason> FinishReasonAfter(Row& row, uint32_t token) const;
  bool CompletesStopString(Row& row, uint32_t token) const;
  void Finish(Row& row, FinishReason reason);
  void CountTokens();
  void Tell(GenerationNews news);
  void End(const absl::Status& status);
  bool ended() const;

  const GenerateRequest request_;
  const ByteBudget::Reservation cache_bytes_;  // of all rows' caches
  const uint32_t n_prompt_;
  const std::string batch_key_;
  std::vector<Row> rows_;
  std::vector<EditProof> proofs_;  // one for each intervention
  int64_t n_tokens_ = 0;           // of the next step
  std::atomic<bool> abandoned_{false};

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<GenerationNews> news_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
