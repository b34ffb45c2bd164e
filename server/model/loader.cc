// Loading a model directory: which architecture it is decides what is read; see architecture.h.
#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/hash.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/weight_files.h"
#include "server/model/architecture.h"
#include "server/model/model_weights.h"
#include "server/model/rotary.h"
#include "server/model/transformer.h"
#include "server/model/weight_reader.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// The SHA-256 sum of every file; several at a time, since one thread hashes slower than disks read.
std::vector<absl::StatusOr<std::string>> SumsOf(const std::vector<std::string>& paths) {
  constexpr size_t kMaxThreads = 8;
  std::vector<absl::StatusOr<std::string>> sums(paths.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < paths.size(); i = next++) sums[i] = Sha256OfFile(paths[i]);
  };
  const size_t n_threads = std::min(
      {paths.size(), kMaxThreads, size_t{std::max(1u, std::thread::hardware_concurrency())}});
  std::vector<std::future<void>> threads;
  for (size_t i = 1; i < n_threads; ++i) threads.push_back(std::async(std::launch::async, work));
  work();
  for (std::future<void>& thread : threads) thread.get();
  return sums;
}

// SHA-256 over the names and SHA-256 sums of config.json and the weight files.
absl::StatusOr<std::string> HashOfFiles(std::vector<std::string> paths) {
  std::sort(paths.begin(), paths.end());
  const std::vector<absl::StatusOr<std::string>> sums = SumsOf(paths);
  Sha256 hash;
  for (size_t i = 0; i < paths.size(); ++i) {
    RETURN_IF_ERROR(sums[i].status());
    hash.Update(absl::StrCat(BaseName(paths[i]), " ", *sums[i], "\n"));
  }
  return hash.HexDigest();
}

absl::Status CheckDtype(const LoadOptions& options) {
  switch (options.dtype) {
    case torch::kFloat32:
    case torch::kBFloat16:
      return absl::OkStatus();
    case torch::kFloat16:
      if (!options.device.is_cpu()) return absl::OkStatus();
      return InvalidArgument("float16 is not supported on the CPU; use float32 or bfloat16");
    default:
      return InvalidArgument("a model cannot compute in ", c10::toString(options.dtype),
                             "; use float32, bfloat16 or float16");
  }
}

absl::StatusOr<std::unique_ptr<ModelWeights>> ReadWeights(const ModelConfig& config,
                                                          const WeightFiles& files,
                                                          const LoadOptions& options) {
  const Architecture* architecture = FindArchitecture(config.model_type);
  if (architecture == nullptr) return Internal("no architecture ", config.model_type);
  WeightReader reader(files, options.dtype, options.device, options.progress);
  ASSIGN_OR_RETURN(ModelWeights weights, architecture->read_weights(config, reader));
  RETURN_IF_ERROR(reader.CheckAllUsed());
  if (config.positions == PositionKind::kRotary) {
    ASSIGN_OR_RETURN(weights.inv_freq, TorchGate("computing rotary frequencies", [&] {
                       return RotaryFrequencies(config.rotary).to(options.device);
                     }));
  }
  return std::make_unique<ModelWeights>(std::move(weights));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Transformer>> Transformer::Load(absl::string_view directory,
                                                                     const LoadOptions& options) {
  RETURN_IF_ERROR(CheckDtype(options));
  ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(directory));
  ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(std::string(directory)));
  std::vector<std::string> paths = {JoinPath(directory, "config.json")};
  for (const SafetensorsFile& file : files.files()) paths.push_back(file.path());
  // Hashing is as slow as reading: both at the same time. The future waits when destroyed.
  std::future<absl::StatusOr<std::string>> hash =
      std::async(std::launch::async, HashOfFiles, std::move(paths));
  ASSIGN_OR_RETURN(std::unique_ptr<ModelWeights> weights, ReadWeights(config, files, options));
  ASSIGN_OR_RETURN(std::string hex, hash.get());
  return std::shared_ptr<const Transformer>(
      new Transformer(std::move(config), std::move(weights), std::move(hex), options));
}

}  // namespace featurescope
