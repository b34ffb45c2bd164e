// Shared by the tests of indexing: a tiny real model, random SAEs, a corpus, and a place to run.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/device_worker.h"
#include "server/formats/token_file.h"
#include "server/index/run_indexing.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"

namespace featurescope {

constexpr int64_t kDIn = 48;  // of the golden models
constexpr uint32_t kVocab = 131;

inline std::shared_ptr<const Transformer> GoldenModel(const std::string& name) {
  auto model = Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/" + name,
                                 LoadOptions());
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

// A random SAE. In a standard one the first feature nearly always fires and the last two never do.
inline std::shared_ptr<const Sae> RandomSae(const std::string& architecture, int64_t d_sae,
                                            int64_t k = 8) {
  torch::manual_seed(5);
  SaeConfig config;
  config.architecture = architecture;
  config.d_in = kDIn;
  config.d_sae = d_sae;
  if (architecture == "topk") config.k = k;
  SaeParameters p;
  p.W_enc = torch::randn({kDIn, d_sae}) / 7;
  p.W_dec = torch::randn({d_sae, kDIn}) / 7;
  p.b_enc = torch::full({d_sae}, architecture == "topk" ? 0.0f : -1.5f);
  p.b_dec = torch::randn({kDIn}) / 10;
  if (architecture == "standard") {
    p.b_enc[0] = 50;
    p.b_enc[d_sae - 1] = -1e6;
    p.b_enc[d_sae - 2] = -1e6;
  }
  auto sae = Sae::Create(config, p);
  EXPECT_TRUE(sae.ok()) << sae.status();
  return sae.ok() ? *sae : nullptr;
}

// A directory of the test's own, gone with it.
class TestDir {
 public:
  TestDir() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "_" + test->name();
    for (char& c : name) c = c == '/' ? '_' : c;
    path_ = testing::TempDir() + "/index_" + name;
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TestDir() {
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
    std::filesystem::remove_all(path_);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Random documents of ids in [2, kVocab), with BOS (0) where asked for.
inline std::shared_ptr<const TokenFile> RandomCorpus(const std::string& dir, uint32_t context_size,
                                                     int n_documents, bool prepend_bos) {
  TokenFileSpec spec;
  spec.vocab_size = kVocab;
  spec.context_size = context_size;
  spec.prepend_bos = prepend_bos;
  auto writer = TokenFileWriter::Create(dir, spec);
  EXPECT_TRUE(writer.ok()) << writer.status();
  std::mt19937 random(23);
  for (int d = 0; d < n_documents; ++d) {
    std::vector<uint32_t> ids(5 + random() % 60);
    for (uint32_t& id : ids) id = 2 + static_cast<uint32_t>(random() % (kVocab - 2));
    EXPECT_TRUE(writer->AppendDocument(ids).ok());
  }
  EXPECT_TRUE(writer->Finish().ok());
  auto corpus = TokenFile::Open(dir);
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  return corpus.ok() ? *corpus : nullptr;
}

// Inputs on the golden GPT-2, and a run context whose files are in a directory of the test's own.
class IndexingTest : public testing::Test {
 protected:
  IndexingTest() : device_(DeviceWorkerOptions()) {
    run_.device = &device_;
    run_.work_dir = dir_ / "work";
  }

  IndexInputs MakeInputs(const std::string& architecture, uint32_t context_size = 24,
                         int n_documents = 60, bool prepend_bos = true) {
    IndexInputs inputs;
    inputs.sae_id = "sae";
    inputs.corpus_id = "corpus";
    inputs.model_id = "gpt2";
    inputs.model = GoldenModel("gpt2");
    inputs.sae = RandomSae(architecture, 96);
    inputs.hook = *HookPoint::Parse("blocks.1.hook_resid_post");
    inputs.corpus = RandomCorpus(dir_ / ("corpus" + std::to_string(n_corpora_++)), context_size,
                                 n_documents, prepend_bos);
    return inputs;
  }

  TestDir dir_;
  DeviceWorker device_;
  RunContext run_;
  int n_corpora_ = 0;
};

}  // namespace featurescope
