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

constexpr int kFormatVersion = 2;
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

// Removes what is older than the kept ones, and weights that never became complete.
void RemoveOld(const std::string& directory) {
  std::vector<int64_t> kept = CheckpointSteps(directory);
  if (kept.size() > kKept) kept.resize(kKept);
  for (const std::string& name : FileNames(directory)) {
    std::optional<int64_t> step = StepOf(name, ".json");
    if (!step) step = StepOf(name, ".safetensors");
    if (!step || std::find(kept.begin(), kept.end(), *step) != kept.end()) continue;
    std::error_code ignored;
    std::filesystem::remove(JoinPath(directory, name), ignored);
  }
}

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

NamedTensors TensorsOf(const TrainState& state) {
  NamedTensors tensors = {{"tokens_since_fired", state.tokens_since_fired}};
  VisitParameters(state, [&](const char* name, const Trained& parameter) {
    if (!parameter.value.defined()) return;
    tensors.emplace_back(name, parameter.value);
    tensors.emplace_back(absl::StrCat(name, ".m"), parameter.m);
    tensors.emplace_back(absl::StrCat(name, ".v"), parameter.v);
  });
  if (state.drawn_keys.defined()) {
    tensors.emplace_back("drawn_keys", state.drawn_keys);
    tensors.emplace_back("drawn_rows", state.drawn_rows);
  }
  return tensors;
}

absl::Status LoadParameters(const SafetensorsFile& file, const TrainingSpec& spec,
                            const TrainingWidths& widths, torch::Device device, TrainState* state) {
  const ArchitectureTraits traits = TraitsOf(spec);
  absl::Status status;
  VisitParameters(*state, [&](const char* name, Trained& parameter) {
    if (!HasParameter(traits, name)) return;
    const std::vector<int64_t> shape = ParameterShape(name, widths, spec.d_sae);
    const auto load = [&](const std::string& tensor_name, torch::Tensor* out) {
      absl::StatusOr<torch::Tensor> tensor =
          LoadTensor(file, tensor_name, shape, torch::kFloat32, device);
      if (tensor.ok()) *out = *std::move(tensor);
      status.Update(tensor.status());
    };
    load(name, &parameter.value);
    load(absl::StrCat(name, ".m"), &parameter.m);
    load(absl::StrCat(name, ".v"), &parameter.v);
  });
  return status;
}

absl::Status LoadTensors(const SafetensorsFile& file, const TrainingSpec& spec,
                         const TrainingWidths& widths, torch::Device device, TrainState* state) {
  RETURN_IF_ERROR(LoadParameters(file, spec, widths, device, state));
  ASSIGN_OR_RETURN(state->tokens_since_fired, LoadTensor(file, "tokens_since_fired", {spec.d_sae},
                                                         torch::kInt64, torch::kCPU));
  if (file.Find("drawn_keys") == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(state->drawn_keys,
                   LoadTensor(file, "drawn_keys", {-1}, torch::kFloat64, torch::kCPU));
  ASSIGN_OR_RETURN(state->drawn_rows,
                   LoadTensor(file, "drawn_rows", {state->drawn_keys.numel(), widths.d_in},
                              torch::kFloat32, torch::kCPU));
  return absl::OkStatus();
}

// The numbers of a checkpoint beside its tensors, listed once for both directions.
template <typename C, typename Visitor>
void VisitNumbers(C& checkpoint, Visitor&& visit) {
  visit("input_scale", checkpoint.scales.input);
  visit("target_scale", checkpoint.scales.target);
  visit("density", checkpoint.state.density);
  visit("kept_threshold", checkpoint.state.kept_threshold);
  visit("last_minimum", checkpoint.state.last_minimum);
}

absl::StatusOr<std::optional<Checkpoint>> Load(const std::string& fingerprint,
                                               const std::string& directory, int64_t step,
                                               const TrainingSpec& spec,
                                               const TrainingWidths& widths, torch::Device device) {
  const std::string path = PathOf(directory, step, "json");
  ASSIGN_OR_RETURN(const json meta, ReadJsonFile(path));
  ASSIGN_OR_RETURN(const int64_t version, JsonInt(meta, "format", path));
  ASSIGN_OR_RETURN(const std::string made_by, JsonString(meta, "fingerprint", path));
  if (version != kFormatVersion || made_by != fingerprint) return std::nullopt;
  Checkpoint checkpoint;
  ASSIGN_OR_RETURN(checkpoint.state.step, JsonInt(meta, "step", path, 0));
  ASSIGN_OR_RETURN(checkpoint.state.resamplings, JsonInt(meta, "resamplings", path, 0));
  ASSIGN_OR_RETURN(const int64_t block, JsonInt(meta, "block", path, 0));
  checkpoint.block = static_cast<uint64_t>(block);
  ASSIGN_OR_RETURN(checkpoint.batch, JsonInt(meta, "batch", path, 0));
  absl::Status status;
  VisitNumbers(checkpoint, [&](const char* name, double& number) {
    const absl::StatusOr<double> read = JsonFloat(meta, name, path);
    if (read.ok()) number = *read;
    status.Update(read.status());
  });
  RETURN_IF_ERROR(status);
  ASSIGN_OR_RETURN(const SafetensorsFile file,
                   SafetensorsFile::Open(PathOf(directory, step, "safetensors")));
  RETURN_IF_ERROR(LoadTensors(file, spec, widths, device, &checkpoint.state));
  return checkpoint;
}

}  // namespace

std::vector<int64_t> CheckpointSteps(const std::string& directory) {
  std::vector<int64_t> steps;
  for (const std::string& name : FileNames(directory)) {
    if (std::optional<int64_t> step = StepOf(name, ".json")) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

absl::Status SaveCheckpoint(const Checkpoint& checkpoint, const std::string& fingerprint,
                            const std::string& directory) {
  const int64_t step = checkpoint.state.step;
  RETURN_IF_ERROR(SaveTensors(PathOf(directory, step, "safetensors"), TensorsOf(checkpoint.state)));
  json meta = {{"format", kFormatVersion},
               {"fingerprint", fingerprint},
               {"step", step},
               {"resamplings", checkpoint.state.resamplings},
               {"block", checkpoint.block},
               {"batch", checkpoint.batch}};
  VisitNumbers(checkpoint, [&](const char* name, double number) { meta[name] = number; });
  RETURN_IF_ERROR(WriteFileAtomically(PathOf(directory, step, "json"), meta.dump(2)));
  RemoveOld(directory);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Checkpoint>> LoadCheckpoint(const std::string& fingerprint,
                                                         const std::string& directory, int64_t step,
                                                         const TrainingSpec& spec,
                                                         const TrainingWidths& widths,
                                                         torch::Device device) {
  absl::StatusOr<std::optional<Checkpoint>> checkpoint =
      Load(fingerprint, directory, step, spec, widths, device);
  if (checkpoint.ok() && checkpoint->has_value()) return checkpoint;
  if (absl::IsResourceExhausted(checkpoint.status())) return checkpoint.status();
  LogWarning("passing over the checkpoint of step ", step, " in ", directory, ": ",
             checkpoint.ok() ? "it belongs to another run" : checkpoint.status().ToString());
  return std::nullopt;
}

}  // namespace featurescope
