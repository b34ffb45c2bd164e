// Shared by the model tests: golden models, temporary variants of them, and running passes.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/formats/safetensors.h"
#include "server/model/transformer.h"
#include "server/tensor/torch.h"
#include "server/tensor/weights.h"

namespace featurescope {

inline std::string GoldenModel(const std::string& name) {
  return std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/" + name;
}

inline std::string DemoModel() { return std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo"; }

// Files beside the checkout; the directory may be absent.
inline std::string SharedDirectory(const std::string& name) {
  const char* root = std::getenv("FEATURESCOPE_SHARED");
  const std::string shared =
      root != nullptr ? root : std::string(FEATURESCOPE_SOURCE_DIR) + "/../shared";
  return shared + "/" + name;
}

// Data too large for the repository.
inline std::string SharedData(const std::string& name) { return SharedDirectory("data/" + name); }

inline std::shared_ptr<const Transformer> LoadOrDie(const std::string& directory,
                                                    const LoadOptions& options = {}) {
  auto model = Transformer::Load(directory, options);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

// All tensors of a safetensors file in their own dtype.
inline std::map<std::string, torch::Tensor> ReadTensors(const std::string& path) {
  auto file = SafetensorsFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  std::map<std::string, torch::Tensor> tensors;
  if (!file.ok()) return tensors;
  for (const TensorEntry& entry : file->entries()) {
    auto tensor = LoadTensor(*file, entry, ToScalarType(entry.dtype), torch::kCPU);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    if (tensor.ok()) tensors[entry.name] = *tensor;
  }
  return tensors;
}

inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

// input_ids [batch, pos] as sequences.
inline std::vector<std::vector<uint32_t>> Rows(const torch::Tensor& ids) {
  std::vector<std::vector<uint32_t>> rows;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    std::vector<uint32_t>& row = rows.emplace_back();
    for (int64_t j = 0; j < ids.size(1); ++j) {
      row.push_back(static_cast<uint32_t>(ids[i][j].item<int64_t>()));
    }
  }
  return rows;
}

inline SequenceBatch BatchOf(const std::vector<std::vector<uint32_t>>& sequences) {
  SequenceBatch batch;
  for (const auto& sequence : sequences) batch.Append(sequence);
  return batch;
}

inline torch::Tensor MustForward(const Transformer& model, const SequenceBatch& batch,
                                 LogitsOf logits, const HookSet* hooks = nullptr) {
  ForwardOptions options;
  options.logits = logits;
  options.hooks = hooks;
  auto result = model.Forward(batch, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : torch::Tensor();
}

// Keeps what passes at each hook point; for grouped values the groups in order.
class Recorder {
 public:
  explicit Recorder(const std::vector<HookPoint>& hooks) {
    for (const HookPoint& hook : hooks) {
      set_.Add(hook, [this](const HookContext& context, torch::Tensor& value) {
        values_[context.hook.name()].push_back(value);
        firsts_[context.hook.name()].push_back(context.first_sequence);
      });
    }
  }
  const HookSet* set() const { return &set_; }
  torch::Tensor one(const std::string& name) const {
    const auto at = values_.find(name);
    if (at == values_.end() || at->second.size() != 1) {
      ADD_FAILURE() << name << " was recorded other than once";
      return torch::zeros({1});
    }
    return at->second.front();
  }
  const std::map<std::string, std::vector<torch::Tensor>>& all() const { return values_; }
  const std::vector<int64_t>& firsts(const std::string& name) { return firsts_[name]; }

 private:
  HookSet set_;
  std::map<std::string, std::vector<torch::Tensor>> values_;
  std::map<std::string, std::vector<int64_t>> firsts_;
};

inline HookPoint Hook(const std::string& name) { return *HookPoint::Parse(name); }

inline double MaxAbsDifference(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) {
    ADD_FAILURE() << "shapes differ: " << (a.defined() ? a.sizes() : at::IntArrayRef()) << " and "
                  << (b.defined() ? b.sizes() : at::IntArrayRef());
    return 1e30;
  }
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

// A copy of a golden model in a temporary directory, to be spoiled.
class ModelCopy {
 public:
  explicit ModelCopy(const std::string& name)
      : directory_(testing::TempDir() + "/model_copy_" +
                   testing::UnitTest::GetInstance()->current_test_info()->test_suite_name() + "_" +
                   testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    for (const auto& file : std::filesystem::directory_iterator(GoldenModel(name))) {
      std::filesystem::copy(file.path(), directory_);
    }
    config = ReadJson(directory_ + "/config.json");
    if (std::filesystem::exists(directory_ + "/model.safetensors")) {
      tensors = ReadTensors(directory_ + "/model.safetensors");
    }
  }
  ~ModelCopy() { std::filesystem::remove_all(directory_); }

  nlohmann::json config;
  std::map<std::string, torch::Tensor> tensors;

  const std::string& directory() const { return directory_; }
  // Writes config and tensors, and loads the result.
  absl::StatusOr<std::shared_ptr<const Transformer>> Load() const {
    std::ofstream(directory_ + "/config.json") << config.dump();
    std::vector<std::pair<std::string, torch::Tensor>> list(tensors.begin(), tensors.end());
    const absl::Status saved = SaveTensors(directory_ + "/model.safetensors", list);
    if (!saved.ok()) return saved;
    return Transformer::Load(directory_, {});
  }

 private:
  std::string directory_;
};

}  // namespace featurescope
