#include "server/train/file_source.h"

#include <algorithm>

#include "server/base/status.h"
#include "server/train/shuffle.h"

namespace featurescope {
namespace {

constexpr uint64_t kRunStream = 0x72756e73;  // no other use of the run's seed shares it
constexpr int64_t kRunsPerPiece = 64;

}  // namespace

absl::StatusOr<std::unique_ptr<FileSource>> FileSource::Create(const TrainingInputs& inputs,
                                                               const std::vector<HookPoint>& hooks,
                                                               const TrainingSpec& spec) {
  Channels channels;
  for (size_t i = 0; i < hooks.size(); ++i) {
    ASSIGN_OR_RETURN(const size_t channel, inputs.activations->FindChannel(hooks[i], i));
    channels.push_back(channel);
  }
  return std::unique_ptr<FileSource>(new FileSource(inputs, spec, std::move(channels)));
}

FileSource::FileSource(const TrainingInputs& inputs, const TrainingSpec& spec, Channels channels)
    : files_(inputs.activations),
      channels_(std::move(channels)),
      seed_(spec.seed),
      device_(inputs.device()),
      runs_per_block_((static_cast<int64_t>(spec.buffer_tokens) + kRowsPerRun - 1) / kRowsPerRun),
      n_runs_(static_cast<uint64_t>((files_->n_rows() + kRowsPerRun - 1) / kRowsPerRun)) {
  for (const size_t channel : channels_) widths_.push_back(files_->channels()[channel].width);
}

FileSource::Run FileSource::RunAt(uint64_t i) const {
  const uint64_t seed = Mix64(seed_ ^ kRunStream) ^ Mix64(i / n_runs_);
  const auto run = static_cast<int64_t>(Permutation(n_runs_, seed)(i % n_runs_));
  return {run * kRowsPerRun, std::min(kRowsPerRun, files_->n_rows() - run * kRowsPerRun)};
}

absl::StatusOr<bool> FileSource::Read(uint64_t block, uint64_t piece, const CancelToken& cancel,
                                      std::vector<torch::Tensor>* rows, int64_t* n_rows) {
  const auto first = static_cast<int64_t>(piece) * kRunsPerPiece;
  const int64_t last = std::min(first + kRunsPerPiece, runs_per_block_);
  for (int64_t i = first; i < last; ++i) {
    RETURN_IF_ERROR(cancel.Check());
    const Run run =
        RunAt(block * static_cast<uint64_t>(runs_per_block_) + static_cast<uint64_t>(i));
    for (size_t c = 0; c < channels_.size(); ++c) {
      RETURN_IF_ERROR(files_->ReadRows(channels_[c], run.begin, run.rows,
                                       (*rows)[c].slice(0, *n_rows, *n_rows + run.rows)));
    }
    *n_rows += run.rows;
  }
  if (last < runs_per_block_) return false;
  ReadAhead(block + 1);
  return true;
}

void FileSource::ReadAhead(uint64_t block) {
  StopReadingAhead();
  stop_.store(false);
  ahead_ = std::thread([this, block] {
    for (int64_t i = 0; i < runs_per_block_ && !stop_.load(); ++i) {
      const Run run =
          RunAt(block * static_cast<uint64_t>(runs_per_block_) + static_cast<uint64_t>(i));
      for (const size_t channel : channels_) files_->Touch(channel, run.begin, run.rows);
    }
  });
}

void FileSource::StopReadingAhead() {
  stop_.store(true);
  if (ahead_.joinable()) ahead_.join();
}

}  // namespace featurescope
