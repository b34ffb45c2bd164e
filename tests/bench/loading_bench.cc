// Peak memory and speed of loading a model, on a synthetic Llama or GPT-NeoX of about 1 GiB.
//
// Each case is measured in a fresh process by VmHWM. `peak / weights` counts everything that the
// process has, LibTorch itself included; `growth / weights` only what loading added.
//
//   usage: loading_bench [DIRECTORY]    where to put the checkpoints (default: a temporary one)
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/formats/safetensors.h"
#include "server/model/transformer.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

constexpr int64_t kWidth = 2048;
constexpr int64_t kMlp = 8192;
constexpr int64_t kVocab = 32000;
constexpr int64_t kHeads = 16;

struct Case {
  const char* architecture;  // llama or gpt_neox
  DType stored;
  const char* dtype;  // float32 or bfloat16
  int n_layers;
};

constexpr Case kCases[] = {{"llama", DType::kBF16, "bfloat16", 7},
                           {"llama", DType::kBF16, "float32", 7},
                           {"llama", DType::kF32, "float32", 3},
                           {"gpt_neox", DType::kF16, "float32", 8}};

using Specs = std::vector<SafetensorsWriter::Spec>;

Specs LlamaSpecs(const Case& c) {
  Specs specs;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    specs.push_back({name, c.stored, std::move(shape)});
  };
  add("model.embed_tokens.weight", {kVocab, kWidth});
  for (int i = 0; i < c.n_layers; ++i) {
    const std::string name = absl::StrCat("model.layers.", i, ".");
    for (const char* which : {"q", "k", "v", "o"}) {
      add(absl::StrCat(name, "self_attn.", which, "_proj.weight"), {kWidth, kWidth});
    }
    add(name + "mlp.gate_proj.weight", {kMlp, kWidth});
    add(name + "mlp.up_proj.weight", {kMlp, kWidth});
    add(name + "mlp.down_proj.weight", {kWidth, kMlp});
    add(name + "input_layernorm.weight", {kWidth});
    add(name + "post_attention_layernorm.weight", {kWidth});
  }
  add("model.norm.weight", {kWidth});
  add("lm_head.weight", {kVocab, kWidth});
  return specs;
}

Specs NeoxSpecs(const Case& c) {
  Specs specs;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    specs.push_back({name, c.stored, std::move(shape)});
  };
  const auto linear = [&](const std::string& name, int64_t d_out, int64_t d_in) {
    add(name + ".weight", {d_out, d_in});
    add(name + ".bias", {d_out});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {kWidth});
    add(name + ".bias", {kWidth});
  };
  add("gpt_neox.embed_in.weight", {kVocab, kWidth});
  for (int i = 0; i < c.n_layers; ++i) {
    const std::string name = absl::StrCat("gpt_neox.layers.", i, ".");
    linear(name + "attention.query_key_value", 3 * kWidth, kWidth);
    linear(name + "attention.dense", kWidth, kWidth);
    linear(name + "mlp.dense_h_to_4h", kMlp, kWidth);
    linear(name + "mlp.dense_4h_to_h", kWidth, kMlp);
    norm(name + "input_layernorm");
    norm(name + "post_attention_layernorm");
  }
  norm("gpt_neox.final_layer_norm");
  add("embed_out.weight", {kVocab, kWidth});
  return specs;
}

// Zeros are as slow to load as anything else; they are written to disk, not left as holes.
absl::Status WriteCheckpoint(const Case& c, const std::string& directory) {
  const bool llama = std::strcmp(c.architecture, "llama") == 0;
  std::ofstream(directory + "/config.json")
      << "{\"model_type\": \"" << c.architecture << "\", \"hidden_size\": " << kWidth
      << ", \"intermediate_size\": " << kMlp << ", \"num_attention_heads\": " << kHeads
      << ", \"num_hidden_layers\": " << c.n_layers << ", \"vocab_size\": " << kVocab
      << ", \"max_position_embeddings\": 2048, \"tie_word_embeddings\": false}";
  const Specs specs = llama ? LlamaSpecs(c) : NeoxSpecs(c);
  ASSIGN_OR_RETURN(SafetensorsWriter writer,
                   SafetensorsWriter::Create(directory + "/model.safetensors", specs));
  const std::vector<char> zeros(8 << 20);
  for (const SafetensorsWriter::Spec& spec : specs) {
    int64_t left = DTypeSize(spec.dtype);
    for (int64_t size : spec.shape) left *= size;
    while (left > 0) {
      const auto n = static_cast<size_t>(std::min(left, static_cast<int64_t>(zeros.size())));
      RETURN_IF_ERROR(writer.Append(spec.name, absl::MakeConstSpan(zeros).first(n)));
      left -= static_cast<int64_t>(n);
    }
  }
  return writer.Finish();
}

// A line of /proc/self/status, in bytes.
uint64_t StatusBytes(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key + ":", 0) == 0) return std::stoull(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

// In the fresh process: loads and prints weights, memory before, peak, seconds.
int LoadAndReport(const std::string& directory, const std::string& dtype) {
  LoadOptions options;
  options.dtype = dtype == "bfloat16" ? torch::kBFloat16 : torch::kFloat32;
  torch::empty({1});  // LibTorch's own first allocations
  const uint64_t before = StatusBytes("VmRSS");
  const absl::Time start = absl::Now();
  const auto model = Transformer::Load(directory, options);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", std::string(model.status().message()).c_str());
    return 1;
  }
  std::printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %.3f\n", (*model)->memory_bytes(), before,
              StatusBytes("VmHWM"), seconds);
  return 0;
}

bool RunCase(const Case& c, const std::string& directory) {
  const absl::Status written = WriteCheckpoint(c, directory);
  if (!written.ok()) {
    std::fprintf(stderr, "%s\n", std::string(written.message()).c_str());
    return false;
  }
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0) return false;
  FILE* child = popen(absl::StrCat(self, " --load ", directory, " ", c.dtype).c_str(), "r");
  if (child == nullptr) return false;
  uint64_t weights = 0;
  uint64_t before = 0;
  uint64_t peak = 0;
  double seconds = 0;
  const int n_read = std::fscanf(child, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %lf", &weights,
                                 &before, &peak, &seconds);
  if (pclose(child) != 0 || n_read != 4) return false;
  const auto mib = [](uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  std::printf(
      "%-8s %-4s -> %-8s  weights %6.0f MiB  before %4.0f MiB  peak %6.0f MiB  "
      "peak/weights %.3f  growth/weights %.3f  %.2f s\n",
      c.architecture, std::string(DTypeName(c.stored)).c_str(), c.dtype, mib(weights), mib(before),
      mib(peak), mib(peak) / mib(weights), (mib(peak) - mib(before)) / mib(weights), seconds);
  std::fflush(stdout);
  return true;
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  using featurescope::kCases;
  if (argc == 4 && std::strcmp(argv[1], "--load") == 0) {
    return featurescope::LoadAndReport(argv[2], argv[3]);
  }
  const std::string parent = argc > 1 ? argv[1] : std::filesystem::temp_directory_path().string();
  const std::string directory = absl::StrCat(parent, "/loading_bench.", getpid());
  std::filesystem::create_directories(directory);
  bool ok = true;
  for (const auto& c : kCases) ok = featurescope::RunCase(c, directory) && ok;
  std::filesystem::remove_all(directory);
  return ok ? 0 : 1;
}
