#include "server/train/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

constexpr int kFormatVersion = 1;
constexpr size_t kKept = 2;
constexpr absl::string_view kPrefix = "checkpoint-";

using nlohmann::json;

std::string PathOf(const std::string& directory, int64_t step, absl::string_view extension) {
  return JoinPath(directory, absl::StrFormat("%s%012d.%s", kPrefix, step, extension));
}

// The step in a checkpoint file's name; nothing for other files.
std::optional<int64_t> StepOf(absl::string_view name, absl::string_view extension) {
  int64_t step = 0;
  if (!absl::ConsumePrefix(&name, kPrefix) || !absl::ConsumeSuffix(&name, extension) ||
      !absl::SimpleAtoi(name, &step)) {
    return std::nullopt;
  }
  return step;
}

std::vector<std::string> FileNames(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  return names;
}

// Steps of complete checkpoints, the newest first.
std::vector<int64_t> CompleteSteps(const std::string& directory) {
  std::vector<int64_t> steps;
  for (const std::string& name : FileNames(directory)) {
    if (std::optional<int64_t> step = StepOf(name, ".json")) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

// Removes what is older than the kept ones, and weights that never became complete.
void RemoveOld(const std::string& directory) {
  std::vector<int64_t> kept = CompleteSteps(directory);
  if (kept.size() > kKept) kept.resize(kKept);
  for (const std::string& name : FileNames(directory)) {
    std::optional<int64_t> step = StepOf(name, ".json");
    if (!step) step = StepOf(name, ".safetensors");
    if (!step || std::find(kept.begin(), kept.end(), *step) != kept.end()) continue;
    std::error_code ignored;
    std::filesystem::remove(JoinPath(directory, name), ignored);
  }
}

// Names and tensors of a state, for writing and, by reference, for reading.
std::vector<std::pair<std::string, torch::Tensor*>> TensorsOf(TrainState* state) {
  std::vector<std::pair<std::string, torch::Tensor*>> tensors = {
      {"tokens_since_fired", &state->tokens_since_fired}};
  const std::pair<const char*, Trained*> trained[] = {{"W_enc", &state->W_enc},
                                                      {"b_enc", &state->b_enc},
                                                      {"W_dec", &state->W_dec},
                                                      {"b_dec", &state->b_dec}};
  for (const auto& [name, parameter] : trained) {
    tensors.emplace_back(name, &parameter->value);
    tensors.emplace_back(absl::StrCat(name, ".m"), &parameter->m);
    tensors.emplace_back(absl::StrCat(name, ".v"), &parameter->v);
  }
  return tensors;
}

std::vector<int64_t> ShapeOf(absl::string_view name, int64_t d_in, int64_t d_sae) {
  if (absl::StartsWith(name, "W_")) return {d_sae, d_in};
  if (absl::StartsWith(name, "b_dec")) return {d_in};
  return {d_sae};
}

absl::StatusOr<std::optional<Checkpoint>> Load(const std::string& fingerprint,
                                               const std::string& directory, int64_t step,
                                               int64_t d_in, int64_t d_sae, torch::Device device) {
  const std::string path = PathOf(directory, step, "json");
  ASSIGN_OR_RETURN(const json meta, ReadJsonFile(path));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(meta, "format", path));
  ASSIGN_OR_RETURN(const std::string made_by, JsonString(meta, "fingerprint", path));
  if (version != kFormatVersion || made_by != fingerprint) return std::nullopt;
  Checkpoint checkpoint;
  ASSIGN_OR_RETURN(checkpoint.state.step, JsonInt(meta, "step", path, 0));
  ASSIGN_OR_RETURN(const int64_t block, JsonInt(meta, "block", path, 0));
  checkpoint.block = static_cast<uint64_t>(block);
  ASSIGN_OR_RETURN(checkpoint.batch, JsonInt(meta, "batch", path, 0));
  ASSIGN_OR_RETURN(checkpoint.input_scale, JsonFloat(meta, "input_scale", path));
  ASSIGN_OR_RETURN(checkpoint.state.density, JsonFloat(meta, "density", path, 0, 1));
  ASSIGN_OR_RETURN(const SafetensorsFile file,
                   SafetensorsFile::Open(PathOf(directory, step, "safetensors")));
  for (auto& [name, tensor] : TensorsOf(&checkpoint.state)) {
    const bool count = name == "tokens_since_fired";
    ASSIGN_OR_RETURN(*tensor, LoadTensor(file, name, ShapeOf(name, d_in, d_sae),
                                         count ? torch::kInt64 : torch::kFloat32,
                                         count ? torch::Device(torch::kCPU) : device));
  }
  return checkpoint;
}

}  // namespace

absl::Status SaveCheckpoint(const Checkpoint& checkpoint, const std::string& fingerprint,
                            const std::string& directory) {
  const int64_t step = checkpoint.state.step;
  TrainState state = checkpoint.state;  // shares the tensors
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [name, tensor] : TensorsOf(&state)) tensors.emplace_back(name, *tensor);
  RETURN_IF_ERROR(SaveTensors(PathOf(directory, step, "safetensors"), tensors));
  const json meta = {{"format", kFormatVersion},
                     {"fingerprint", fingerprint},
                     {"step", step},
                     {"block", checkpoint.block},
                     {"batch", checkpoint.batch},
                     {"input_scale", checkpoint.input_scale},
                     {"density", state.density}};
  RETURN_IF_ERROR(WriteFileAtomically(PathOf(directory, step, "json"), meta.dump(2)));
  RemoveOld(directory);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Checkpoint>> LoadLatestCheckpoint(const std::string& fingerprint,
                                                               const std::string& directory,
                                                               int64_t d_in, int64_t d_sae,
                                                               torch::Device device) {
  for (const int64_t step : CompleteSteps(directory)) {
    absl::StatusOr<std::optional<Checkpoint>> checkpoint =
        Load(fingerprint, directory, step, d_in, d_sae, device);
    if (checkpoint.ok() && checkpoint->has_value()) return checkpoint;
    if (absl::IsResourceExhausted(checkpoint.status())) return checkpoint.status();
    LogWarning("passing over the checkpoint of step ", step, " in ", directory, ": ",
               checkpoint.ok() ? "it belongs to another run" : checkpoint.status().ToString());
  }
  return std::nullopt;
}

}  // namespace featurescope
