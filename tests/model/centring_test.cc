#include "server/model/centring.h"

#include <string>

#include "tests/model/support.h"

namespace featurescope {
namespace {

constexpr double kSame = 5e-5;  // rounding of values up to 30: other order of sums

SequenceBatch Batch() { return BatchOf({{5, 9, 2, 77, 31, 4}, {1, 2, 130}}); }

// The gpt2 fixture with its writing weights really centred: token and position embeddings, and
// what attention and MLPs write. The unembedding stays as it was, so it is no longer tied.
absl::StatusOr<std::shared_ptr<const Transformer>> CentredGpt2() {
  ModelCopy copy("gpt2");
  copy.config["tie_word_embeddings"] = false;
  copy.tensors["lm_head.weight"] = copy.tensors.at("transformer.wte.weight").clone();
  const auto centre = [&](const std::string& name) {
    torch::Tensor& tensor = copy.tensors.at("transformer." + name);
    tensor = tensor - tensor.mean(-1, true);  // all of them are [..., d_model]
  };
  centre("wte.weight");
  centre("wpe.weight");
  for (const std::string layer : {"h.0.", "h.1.", "h.2."}) {
    for (const char* name :
         {"attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"}) {
      centre(layer + name);
    }
  }
  return copy.Load();
}

TEST(CentringTest, GivesTheActivationsOfCentredWeightsAtEveryHook) {
  const auto plain = LoadOrDie(GoldenModel("gpt2"));
  const auto centred = CentredGpt2();
  ASSERT_TRUE(centred.ok()) << centred.status();
  ASSERT_TRUE(CheckCanCenterWriting(plain->config()).ok());
  std::vector<HookPoint> hooks;
  for (const HookPoint& hook : plain->config().AllHooks()) {
    if (hook.kind != HookKind::kAttnScores) hooks.push_back(hook);  // -inf where masked
  }
  for (const HookPoint& hook : hooks) {  // one by one: some stop the fused attention
    Recorder from_plain({hook});
    Recorder from_centred({hook});
    MustForward(*plain, BatchOf({{5, 9, 2, 77, 31, 4}}), LogitsOf::kNone, from_plain.set());
    MustForward(**centred, BatchOf({{5, 9, 2, 77, 31, 4}}), LogitsOf::kNone, from_centred.set());
    const torch::Tensor raw = from_plain.one(hook.name());
    const torch::Tensor got = CenterWritingActivation(hook, raw);
    EXPECT_LT(MaxAbsDifference(got, from_centred.one(hook.name())), kSame) << hook.name();
    // Where nothing is said to change, the very tensor comes back; elsewhere there was a mean.
    EXPECT_EQ(got.is_same(raw), !IsCentredByWriting(hook.kind)) << hook.name();
    if (IsCentredByWriting(hook.kind)) EXPECT_GT(MaxAbsDifference(got, raw), 0.01) << hook.name();
  }
}

TEST(CentringTest, LogitsOfCentredWeightsAreTheSame) {
  const auto plain = LoadOrDie(GoldenModel("gpt2"));
  const auto centred = CentredGpt2();
  ASSERT_TRUE(centred.ok()) << centred.status();
  EXPECT_LT(MaxAbsDifference(MustForward(*plain, Batch(), LogitsOf::kAllTokens),
                             MustForward(**centred, Batch(), LogitsOf::kAllTokens)),
            kSame);
}

// Steering the centred model directly, and the uncentred one through the two functions.
TEST(CentringTest, EditsInTheCentredSpaceHaveTheEffectThatTheyHaveOnCentredWeights) {
  const auto plain = LoadOrDie(GoldenModel("gpt2"));
  const auto centred = CentredGpt2();
  ASSERT_TRUE(centred.ok()) << centred.status();
  torch::manual_seed(8);
  const torch::Tensor direction = torch::randn({48}) + 0.5;  // not centred itself
  const auto edit = [&](const torch::Tensor& x) { return x * 0.7 + direction; };
  for (const char* name :
       {"blocks.1.hook_resid_pre", "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid",
        "blocks.2.hook_mlp_out", "hook_embed", "blocks.1.mlp.hook_post"}) {
    const HookPoint hook = Hook(name);
    const auto edit_any = [&](const torch::Tensor& x) {
      return x.size(1) == 48 ? edit(x) : x * 0.7;
    };
    HookSet on_centred;
    on_centred.Add(hook,
                   [&](const HookContext&, torch::Tensor& value) { value = edit_any(value); });
    HookSet on_plain;
    on_plain.Add(hook, [&](const HookContext&, torch::Tensor& value) {
      value = ApplyCentredEdit(hook, value, edit_any(CenterWritingActivation(hook, value)));
    });
    const torch::Tensor want = MustForward(**centred, Batch(), LogitsOf::kAllTokens, &on_centred);
    EXPECT_LT(MaxAbsDifference(MustForward(*plain, Batch(), LogitsOf::kAllTokens, &on_plain), want),
              kSame)
        << name;
    EXPECT_GT(MaxAbsDifference(MustForward(*plain, Batch(), LogitsOf::kAllTokens), want), 0.1)
        << name;
  }
}

TEST(CentringTest, AnUneditedValueGoesBackAsItWas) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({4, 48}) + 3;
  for (const char* name : {"blocks.0.hook_resid_post", "blocks.0.attn.hook_z"}) {
    const HookPoint hook = Hook(name);
    EXPECT_LT(MaxAbsDifference(ApplyCentredEdit(hook, x, CenterWritingActivation(hook, x)), x),
              1e-6);
  }
}

TEST(CentringTest, ParallelBlocksAreCentredAlike) {
  const auto neox = LoadOrDie(GoldenModel("gpt_neox"));
  EXPECT_TRUE(CheckCanCenterWriting(neox->config()).ok());
}

TEST(CentringTest, ModelsWithRmsNormAreRefused) {
  for (const char* name : {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"}) {
    const auto config = ReadModelConfig(GoldenModel(name));
    ASSERT_TRUE(config.ok());
    const absl::Status status = CheckCanCenterWriting(*config);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << name;
    EXPECT_NE(status.message().find("RMSNorm"), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace featurescope
