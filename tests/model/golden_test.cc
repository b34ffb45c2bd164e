// The forward pass against TransformerLens v2.18.0 and HF transformers 4.48 (fixtures of
// tests/golden/lm; both agree with each other within 2.3e-5).
#include <filesystem>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "tests/model/support.h"

namespace featurescope {
namespace {

constexpr double kTolerance = 1e-4;  // max abs, float32

constexpr const char* kFixtures[] = {"gemma",
                                     "gemma2",
                                     "gpt2",
                                     "gpt2_hub_layout",
                                     "gpt_neox",
                                     "gpt_neox_hub_layout_f16",
                                     "gpt_neox_sequential",
                                     "llama",
                                     "llama3_rope_scaling",
                                     "llama_sharded_bf16",
                                     "llama_tied",
                                     "mistral",
                                     "qwen2",
                                     "qwen3"};

std::set<std::string> DirectoriesIn(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_directory()) names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(GoldenFixturesTest, EveryFixtureIsTested) {
  const std::set<std::string> tested(std::begin(kFixtures), std::end(kFixtures));
  EXPECT_EQ(DirectoriesIn(GoldenModel("")), tested);
}

TEST(GoldenFixturesTest, EveryPublishedFixtureIsHere) {
  const std::string published = SharedDirectory("fixtures/lm");
  if (!std::filesystem::exists(published)) GTEST_SKIP() << published << " is not there";
  for (const std::string& name : DirectoriesIn(published)) {
    EXPECT_TRUE(std::filesystem::exists(GoldenModel(name))) << name;
  }
}

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, LogitsAndEveryRecordedHookAgree) {
  const auto model = LoadOrDie(GoldenModel(GetParam()));
  ASSERT_NE(model, nullptr);
  const auto expected = ReadTensors(GoldenModel(GetParam()) + "/expected.safetensors");
  std::vector<HookPoint> hooks;
  for (const auto& [name, tensor] : expected) {
    if (name != "logits" && name != "input_ids") hooks.push_back(Hook(name));
  }
  ASSERT_FALSE(hooks.empty());
  Recorder recorder(hooks);
  const auto rows = Rows(expected.at("input_ids"));
  const torch::Tensor logits =
      MustForward(*model, BatchOf(rows), LogitsOf::kAllTokens, recorder.set());
  EXPECT_LT(MaxAbsDifference(logits, expected.at("logits").flatten(0, 1)), kTolerance);
  for (const HookPoint& hook : hooks) {
    torch::Tensor want = expected.at(hook.name());
    if (hook.kind != HookKind::kPattern) want = want.flatten(0, 1);
    EXPECT_LT(MaxAbsDifference(recorder.one(hook.name()), want), kTolerance) << hook.name();
  }
}

// Nothing is hooked, so attention runs fused; with all hooks it is composed of operators.
TEST_P(GoldenTest, UnobservedLogitsAgree) {
  const auto model = LoadOrDie(GoldenModel(GetParam()));
  ASSERT_NE(model, nullptr);
  const auto expected = ReadTensors(GoldenModel(GetParam()) + "/expected.safetensors");
  const auto rows = Rows(expected.at("input_ids"));
  EXPECT_LT(MaxAbsDifference(MustForward(*model, BatchOf(rows), LogitsOf::kAllTokens),
                             expected.at("logits").flatten(0, 1)),
            kTolerance);
}

TEST_P(GoldenTest, EveryHookHasTheShapeThatTheConfigSays) {
  const auto model = LoadOrDie(GoldenModel(GetParam()));
  ASSERT_NE(model, nullptr);
  const std::vector<HookPoint> hooks = model->config().AllHooks();
  Recorder recorder(hooks);
  MustForward(*model, BatchOf({{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}}), LogitsOf::kNone,
              recorder.set());
  EXPECT_EQ(recorder.all().size(), hooks.size());
  int last_order = -1;
  for (const HookPoint& hook : hooks) {
    EXPECT_GT(ExecutionOrder(hook, model->config().n_layers), last_order);
    last_order = ExecutionOrder(hook, model->config().n_layers);
    const auto shape = model->config().HookShape(hook);
    ASSERT_TRUE(shape.ok());
    std::vector<int64_t> want = {10};
    want.insert(want.end(), shape->begin(), shape->end());
    if (shape->back() == -1) want = {2, (*shape)[0], 5, 5};
    EXPECT_EQ(recorder.one(hook.name()).sizes().vec(), want) << hook.name();
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(kFixtures),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace featurescope
