// Checkpoints of a training run: the last two, each complete or absent.
//
//   checkpoint-<step>.safetensors  the TrainState
//   checkpoint-<step>.json         the rest; written last, so its presence says "complete"
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tensor/torch.h"
#include "server/train/train_state.h"

namespace featurescope {

struct Checkpoint {
  TrainState state;
  // The next batch to train on.
  uint64_t block = 0;
  int64_t batch = 0;
  DataScales scales;
};

// Writes it to `directory` and removes all but this one and the one before.
//
//   fingerprint  of what the run computes; only a checkpoint of the same one is continued
//   errors       of writing, e.g. ResourceExhausted when the disk is full
absl::Status SaveCheckpoint(const Checkpoint& checkpoint, const std::string& fingerprint,
                            const std::string& directory);

// Steps of the complete checkpoints in `directory`, the newest first.
std::vector<int64_t> CheckpointSteps(const std::string& directory);

// The checkpoint of a step; nothing, with a warning in the log, where it is damaged or of another
// fingerprint.   errors  ResourceExhausted  it does not fit into memory
absl::StatusOr<std::optional<Checkpoint>> LoadCheckpoint(const std::string& fingerprint,
                                                         const std::string& directory, int64_t step,
                                                         const TrainingSpec& spec,
                                                         const TrainingWidths& widths,
                                                         torch::Device device);

}  // namespace featurescope
