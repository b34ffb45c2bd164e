#include "server/index/checkpoint.h"

#include <utility>

#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/index/checkpoint_bytes.h"

namespace featurescope {
namespace {

constexpr uint64_t kMagic = 0x3158444e49534600;  // changes with the layout
constexpr uint64_t kMaxCheckpointBytes = uint64_t{1} << 38;

}  // namespace

absl::Status SaveIndexingState(const std::string& path, const std::string& fingerprint,
                               const IndexingState& state) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  CheckpointWriter writer(std::move(file));
  writer.Put(kMagic);
  writer.PutString(fingerprint);
  writer.Put(state.next_context);
  writer.Put(state.tokens_done);
  writer.Put(state.seconds);
  writer.Put(state.reconstruction.n_tokens);
  writer.Put(state.reconstruction.residual_squares);
  writer.Put(state.reconstruction.input_squares);
  writer.PutVector(state.reconstruction.inputs);
  state.features.Write(writer);
  return writer.Finish();
}

absl::Status LoadIndexingState(const std::string& path, const std::string& fingerprint,
                               IndexingState* state) {
  if (!FileExists(path)) return NotFound("no checkpoint ", path);
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxCheckpointBytes));
  absl::StatusOr<CheckpointReader> reader = CheckpointReader::Create(bytes);
  if (!reader.ok()) return Annotate(reader.status(), path);
  uint64_t magic = 0;
  std::string found;
  if (!reader->Get(&magic) || magic != kMagic || !reader->GetString(&found)) {
    return FailedPrecondition(path, ": written by another version");
  }
  if (found != fingerprint) {
    return FailedPrecondition(path, ": of another model, SAE, corpus or specification");
  }
  ReconstructionSums& sums = state->reconstruction;
  if (!reader->Get(&state->next_context) || !reader->Get(&state->tokens_done) ||
      !reader->Get(&state->seconds) || !reader->Get(&sums.n_tokens) ||
      !reader->Get(&sums.residual_squares) || !reader->Get(&sums.input_squares) ||
      !reader->GetVector(&sums.inputs) || !state->features.Read(*reader) ||
      reader->remaining() != 0) {
    return absl::DataLossError(absl::StrCat(path, ": its content does not fit together"));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
