// A ComputeActivations request on the device worker's thread.
//
// A request of many texts takes several turns, a slice of its texts each, so that others get theirs
// in between.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/engine/completion.h"
#include "server/engine/device_worker.h"
#include "server/explore/activation_selection.h"
#include "server/explore/activations.h"

namespace featurescope {

class ActivationsTask : public InteractiveTask {
 public:
  // A request that has been checked, and its texts' token ids. `request` outlives the task's turns:
  // its owner calls Wait before letting go of it.
  ActivationsTask(const ActivationsRequest& request, std::vector<std::vector<uint32_t>> ids);

  const std::string& batch_key() const override { return batch_key_; }
  int64_t n_tokens() const override { return slice_tokens_; }
  const CancelToken& cancel() const override { return request_.cancel; }
  std::vector<std::shared_ptr<InteractiveTask>> RunBatch(
      absl::Span<const std::shared_ptr<InteractiveTask>> batch) override;
  void Fail(const absl::Status& status) override { completion_.Set(status); }

  absl::Status Wait() { return completion_.Wait(); }
  // After Wait returned OK: of each text, what was computed of each SAE.
  std::vector<std::vector<SaeActivations>>& results() { return results_; }
  const std::vector<std::vector<uint32_t>>& ids() const { return ids_; }

 private:
  friend class ActivationsBatch;

  // Takes the texts of the next turn.
  void NextSlice();

  const ActivationsRequest& request_;
  const ActivationSelection selection_;  // the request's, in order
  const std::vector<std::vector<uint32_t>> ids_;
  std::string batch_key_;
  size_t slice_begin_ = 0;  // texts of this turn
  size_t slice_end_ = 0;
  int64_t slice_tokens_ = 0;
  EntryBudget budget_;
  std::vector<std::vector<SaeActivations>> results_;  // of the texts before slice_begin_
  Completion completion_;
};

}  // namespace featurescope
