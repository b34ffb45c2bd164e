// A hub with one model in it, an empty cache, and short ways to pull from one into the other.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/base/cancel.h"
#include "server/formats/file.h"
#include "server/hub/pull.h"
#include "tests/base/temp_dir.h"
#include "tests/hub/fake_hub.h"

namespace featurescope {

inline constexpr char kRepo[] = "org/model";

// Bytes without a pattern that a shifted copy would also have.
inline std::string Noise(size_t n, uint64_t seed) {
  std::string bytes(n, '\0');
  for (size_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<char>(seed >> 56);
  }
  return bytes;
}

inline std::string Content(const std::string& path) {
  auto text = ReadFile(path, 1u << 30);
  return text.ok() ? *text : text.status().ToString();
}

class PullTest : public ::testing::Test {
 protected:
  PullTest() : cache_(dir_ / "hub") {
    hub_.Edit([](FakeHub::State& state) {
      FakeRepo& repo = state.repos[kRepo];
      repo.files["config.json"] = {"{\"model_type\": \"gpt2\"}"};
      repo.files["tokenizer.json"] = {Noise(5000, 1)};
      repo.files["README.md"] = {"words"};
      repo.files["pytorch_model.bin"] = {Noise(100, 2), true};
      repo.files["onnx/model.onnx"] = {Noise(100, 3), true};
      repo.files["model.safetensors"] = {Noise(300000, 4), true};
    });
  }

  void AddShards() {
    hub_.Edit([](FakeHub::State& state) {
      FakeRepo& repo = state.repos[kRepo];
      nlohmann::json index;
      for (int i = 1; i <= 3; ++i) {
        const std::string name = absl::StrCat("model-0000", i, "-of-00003.safetensors");
        repo.files[name] = {Noise(200000, 10 + i), true};
        index["weight_map"][absl::StrCat("layer.", i)] = name;
      }
      repo.files["model.safetensors.index.json"] = {index.dump()};
      repo.files["consolidated.safetensors"] = {Noise(100, 9), true};
    });
  }

  PullOptions Options(const std::string& source = kRepo) const {
    PullOptions options;
    options.hub = hub_.Options(cache_);
    options.source = source;
    return options;
  }
  absl::StatusOr<PulledModel> Model(const PullOptions& options) {
    return PullModel(options, nullptr, CancelToken());
  }
  absl::Status ModelError(const PullOptions& options) { return Model(options).status(); }
  std::string Wanted(const std::string& path, const std::string& repo = kRepo) {
    std::string content;
    hub_.Edit([&](FakeHub::State& state) { content = state.repos[repo].files[path].content; });
    return content;
  }
  std::string BlobOf(const std::string& path) {
    std::string hash;
    hub_.Edit([&](FakeHub::State& state) { hash = FakeHub::Hash(state.repos[kRepo].files[path]); });
    return cache_ + "/models--org--model/blobs/" + hash;
  }

  TempDir dir_;
  const std::string cache_;
  FakeHub hub_;
};

}  // namespace featurescope
