// The live questions on the demo model with its own tokenizer.
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/explore/activations.h"
#include "server/explore/generate.h"
#include "tests/explore/explore_fixture.h"
#include "tests/explore/generated_text.h"

namespace featurescope {
namespace {

class DemoModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string dir = std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo";
    if (!std::filesystem::exists(dir + "/model.safetensors")) {
      GTEST_SKIP() << "no demo model in " << dir;
    }
    auto model = Transformer::Load(dir, {});
    ASSERT_TRUE(model.ok()) << model.status();
    auto tokenizer = Tokenizer::Load(dir);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    model_ = {*model, *tokenizer};
    SaeConfig config;
    config.architecture = "topk";
    config.d_in = (*model)->config().d_model;
    config.d_sae = 1024;
    config.k = 16;
    sae_ = {"random", RandomSae(config), *HookPoint::Parse("blocks.3.hook_resid_post")};
  }

  ModelRef model_;
  SaeRef sae_;
};

TEST_F(DemoModelTest, TokensSpellTheTextAndFireFeatures) {
  ActivationsRequest request;
  request.model = model_;
  request.inputs = {Text("It was the best of times,\nit was the worst of times.", true)};
  request.saes = {sae_};
  DeviceWorker worker({});
  const auto response = ComputeActivations(request, worker);
  ASSERT_TRUE(response.ok()) << response.status();
  std::string text;
  for (const Token& token : response->texts[0].tokens) text += token.bytes;
  EXPECT_EQ(text, "It was the best of times,\nit was the worst of times.");
  EXPECT_GT(response->texts[0].saes[0].l0, 0);
  EXPECT_LE(response->texts[0].saes[0].l0, 16);
}

TEST_F(DemoModelTest, SteeringChangesTheTextAndTheBaselineStaysGreedy) {
  GenerateRequest request;
  request.model = model_;
  request.prompt = Text("The President of the United States");
  request.max_new_tokens = 12;
  request.with_baseline = true;
  Intervention edit;
  edit.sae = sae_;
  edit.feature = 100;
  edit.value = 60;
  edit.unit = EditUnit::kResidual;
  request.interventions = {edit};
  const GeneratedText text = GenerateOrDie(request);
  EXPECT_NE(text.ids(Branch::kSteered), text.ids(Branch::kBaseline));
  std::vector<uint32_t> ids;
  for (const Token& token : text.prompt) ids.push_back(token.id);
  for (const uint32_t next : text.ids(Branch::kBaseline)) {
    SequenceBatch batch;
    batch.Append(ids);
    ForwardOptions options;
    options.logits = LogitsOf::kLastToken;
    const auto logits = *model_.model->Forward(batch, options);
    EXPECT_EQ(next, logits[0].argmax().item<int64_t>());
    ids.push_back(next);
  }
}

}  // namespace
}  // namespace featurescope
