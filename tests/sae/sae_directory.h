// A directory of a test's own with an SAE's files, copied from tests/golden/sae or made up.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/sae/sae_files.h"
#include "server/tensor/array_tensor.h"
#include "server/tensor/weights.h"

namespace featurescope {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

class SaeDirectory {
 public:
  // A copy of tests/golden/sae/`golden`, or an empty directory.
  explicit SaeDirectory(const std::string& golden = "") {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/" + test->test_suite_name() + "_" + test->name();
    for (char& c : root_) c = c == '.' ? '_' : c;
    std::filesystem::remove_all(root_);
    path_ = golden.empty() ? root_ : root_ + "/" + std::string(BaseName(golden));
    EXPECT_TRUE(EnsureDir(path_).ok());
    if (!golden.empty()) {
      std::filesystem::copy(std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/sae/" + golden,
                            path_);
      std::filesystem::remove(path_ + "/expected.safetensors");
    }
  }
  ~SaeDirectory() { std::filesystem::remove_all(root_); }

  const std::string& path() const { return path_; }
  std::string At(const std::string& name) const { return path_ + "/" + name; }

  void WriteJson(const std::string& name, const nlohmann::json& value) const {
    EXPECT_TRUE(WriteFileAtomically(At(name), value.dump()).ok());
  }
  // One field of a JSON file changed; null with `remove`: taken out.
  void Edit(const std::string& name, const std::function<void(nlohmann::json&)>& change) const {
    nlohmann::json value = ReadJsonFile(At(name)).value();
    change(value);
    WriteJson(name, value);
  }
  // A safetensors file's tensors changed.
  void EditTensors(const std::string& name,
                   const std::function<void(NamedTensors&)>& change) const {
    NamedTensors tensors;
    {
      const SafetensorsFile file = SafetensorsFile::Open(At(name)).value();
      for (const TensorEntry& entry : file.entries()) {
        tensors.emplace_back(
            entry.name, LoadTensor(file, entry, ToScalarType(entry.dtype), torch::kCPU).value());
      }
    }
    change(tensors);
    EXPECT_TRUE(SaveTensors(At(name), tensors).ok());
  }
  // The same for a state_dict of a torch.save file.
  void EditStateDict(const std::string& name,
                     const std::function<void(NamedTensors&)>& change) const {
    NamedTensors tensors;
    {
      const TorchFile file = TorchFile::Open(At(name)).value();
      const TorchValue::Dict& dict = *file.root().AsDict();
      for (size_t i = 0; i < dict.keys.size(); ++i) {
        const std::string& key = *dict.keys[i].AsString();
        const TorchTensor* tensor = dict.values[i].AsTensor();
        if (tensor == nullptr) continue;
        tensors.emplace_back(
            key, LoadTensor(file, *tensor, key, ToScalarType(tensor->dtype), torch::kCPU).value());
      }
    }
    change(tensors);
    EXPECT_TRUE(SaveStateDict(At(name), tensors).ok());
  }

  absl::StatusOr<std::shared_ptr<const Sae>> Load(const LoadSaeOptions& options = {}) const {
    return LoadSae(path_, torch::kCPU, options);
  }
  std::string Refusal(const LoadSaeOptions& options = {}) const {
    const absl::Status status = Load(options).status();
    return status.ok() ? "OK" : status.ToString();
  }

 private:
  std::string root_;
  std::string path_;
};

inline torch::Tensor* FindTensor(NamedTensors& tensors, const std::string& name) {
  for (auto& [known, tensor] : tensors) {
    if (known == name) return &tensor;
  }
  return nullptr;
}
inline void RemoveTensor(NamedTensors& tensors, const std::string& name) {
  std::erase_if(tensors, [&name](const auto& entry) { return entry.first == name; });
}

}  // namespace featurescope
