// Activations from disk, shuffled without reading all of them: runs of rows are visited in a seeded
// order, another one in each round, and a block's runs are read before they are needed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "server/train/activation_files.h"
#include "server/train/activation_source.h"

namespace featurescope {

class FileSource : public ActivationSource {
 public:
  // Rows that lie together on disk and in one block.
  static constexpr int64_t kRowsPerRun = 64;

  // The files' channels stand for the hooks in their order.
  static absl::StatusOr<std::unique_ptr<FileSource>> Create(const TrainingInputs& inputs,
                                                            const std::vector<HookPoint>& hooks,
                                                            const TrainingSpec& spec);
  ~FileSource() override { StopReadingAhead(); }

  int64_t MaxRows(uint64_t /*block*/) const override { return runs_per_block_ * kRowsPerRun; }
  absl::StatusOr<bool> Read(uint64_t block, uint64_t piece, const CancelToken& cancel,
                            std::vector<torch::Tensor>* rows, int64_t* n_rows) override;
  torch::Device device() const override { return device_; }

 private:
  struct Run {
    int64_t begin = 0;
    int64_t rows = 0;
  };
  // Where a channel's numbers are in the files.
  using Channels = std::vector<size_t>;

  FileSource(const TrainingInputs& inputs, const TrainingSpec& spec, Channels channels);
  // The run at place `i` of all rounds.
  Run RunAt(uint64_t i) const;
  // Brings a block's runs into the page cache, on a thread of its own.
  void ReadAhead(uint64_t block);
  void StopReadingAhead();

  const std::shared_ptr<const ActivationFiles> files_;
  const Channels channels_;
  const uint64_t seed_;
  const torch::Device device_;
  const int64_t runs_per_block_;
  const uint64_t n_runs_;
  std::thread ahead_;
  std::atomic<bool> stop_{false};
};

}  // namespace featurescope
