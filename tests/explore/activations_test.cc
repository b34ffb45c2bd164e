#include "server/explore/activations.h"

#include <cmath>
#include <latch>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/explore/explore_fixture.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ActivationsRequest RequestFor(std::vector<TextInput> inputs, std::vector<SaeRef> saes) {
  ActivationsRequest request;
  request.model = TinyModel();
  request.inputs = std::move(inputs);
  request.saes = std::move(saes);
  return request;
}

ActivationsResponse ComputeOrDie(const ActivationsRequest& request) {
  DeviceWorker worker({});
  auto response = ComputeActivations(request, worker);
  EXPECT_TRUE(response.ok()) << response.status();
  return response.ok() ? *std::move(response) : ActivationsResponse();
}

absl::Status StatusOf(const ActivationsRequest& request) {
  DeviceWorker worker({});
  return ComputeActivations(request, worker).status();
}

// The SAE's code of every token, [pos, d_sae].
torch::Tensor DenseCode(const std::vector<uint32_t>& ids, const SaeRef& sae) {
  return sae.sae->Encode(ValueAt(*TinyTransformer(), ids, sae.hook))->acts.ToDense();
}

TEST(ActivationsTest, AreWhatTheSaeEncodesAtItsHook) {
  const std::vector<uint32_t> ids = {5, 17, 99, 3};
  for (const char* hook :
       {"blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out", "blocks.2.attn.hook_z"}) {
    for (const char* architecture : {"standard", "topk"}) {
      const SaeRef sae = RandomSaeRef(architecture, hook);
      const auto response = ComputeOrDie(RequestFor({Ids(ids)}, {sae}));
      ASSERT_EQ(response.texts.size(), 1u);
      const SaeActivations& result = response.texts[0].saes[0];
      EXPECT_EQ(result.sae_id, sae.id);
      EXPECT_LT(MaxDifference(Dense(result.acts), DenseCode(ids, sae)), 1e-5) << hook;
    }
  }
}

TEST(ActivationsTest, ManyTextsAndSaesGiveTheSameAsOneByOne) {
  const std::vector<SaeRef> saes = {RandomSaeRef("topk", "blocks.1.hook_resid_post", 1),
                                    RandomSaeRef("standard", "blocks.0.hook_mlp_out", 2),
                                    RandomSaeRef("topk", "blocks.1.hook_resid_post", 3)};
  std::vector<TextInput> inputs;
  for (uint32_t i = 0; i < 12; ++i) {
    std::vector<uint32_t> ids;
    for (uint32_t p = 0; p < 3 + 5 * (i % 4); ++p) ids.push_back(1 + (i * 31 + p * 7) % 130);
    inputs.push_back(Ids(ids));
  }
  const auto together = ComputeOrDie(RequestFor(inputs, saes));
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (size_t s = 0; s < saes.size(); ++s) {
      const auto alone = ComputeOrDie(RequestFor({inputs[i]}, {saes[s]}));
      const SaeActivations& a = together.texts[i].saes[s];
      const SaeActivations& b = alone.texts[0].saes[0];
      EXPECT_LT(MaxDifference(Dense(a.acts), Dense(b.acts)), 1e-4);
      EXPECT_NEAR(a.l0, b.l0, 1e-5);
      EXPECT_NEAR(a.explained_variance, b.explained_variance, 1e-4);
    }
  }
}

TEST(ActivationsTest, ConcurrentCallersShareBatchesAndGetTheirOwnAnswers) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.1.hook_resid_post");
  DeviceWorker worker({});
  std::latch started(1);
  std::latch release(1);
  std::thread hold([&] {
    EXPECT_TRUE(worker
                    .RunInteractive(CancelToken(),
                                    [&] {
                                      started.count_down();
                                      release.wait();
                                      return absl::OkStatus();
                                    })
                    .ok());
  });
  started.wait();
  constexpr uint32_t kCallers = 8;
  std::vector<std::thread> callers;
  std::vector<absl::StatusOr<ActivationsResponse>> responses(kCallers);
  for (uint32_t c = 0; c < kCallers; ++c) {
    callers.emplace_back([&, c] {
      auto request = RequestFor({Ids({c + 1, c + 2, c + 3})}, {sae});
      if (c == 3) request.max_entries = 1;  // a caller's own trouble stays its own
      if (c == 4) request.selection = TopKPerToken{2};
      responses[c] = ComputeActivations(request, worker);
    });
  }
  while (worker.stats().waiting < kCallers) std::this_thread::yield();
  release.count_down();
  for (std::thread& caller : callers) caller.join();
  hold.join();
  // One turn for all callers, after the holder's (and a last one, so that theirs is counted).
  EXPECT_TRUE(worker.RunInteractive(CancelToken(), [] { return absl::OkStatus(); }).ok());
  EXPECT_LE(worker.stats().interactive_batches, 3u);
  for (uint32_t c = 0; c < kCallers; ++c) {
    if (c == 3) {
      EXPECT_EQ(responses[c].status().code(), absl::StatusCode::kResourceExhausted);
      continue;
    }
    ASSERT_TRUE(responses[c].ok()) << responses[c].status();
    if (c == 4) continue;
    EXPECT_LT(MaxDifference(Dense(responses[c]->texts[0].saes[0].acts),
                            DenseCode({c + 1, c + 2, c + 3}, sae)),
              1e-4);
  }
}

TEST(ActivationsTest, ALongRequestTakesSeveralTurnsAndLosesNothing) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.0.hook_resid_pre");
  std::vector<TextInput> inputs;
  for (uint32_t i = 0; i < kMaxInputs; ++i) inputs.push_back(Ids(std::vector<uint32_t>(60, i + 1)));
  DeviceWorker worker({});
  const auto response = ComputeActivations(RequestFor(inputs, {sae}), worker);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_GT(worker.stats().interactive_batches, 1u);
  for (uint32_t i = 0; i < kMaxInputs; i += 21) {
    EXPECT_LT(MaxDifference(Dense(response->texts[i].saes[0].acts),
                            DenseCode(std::vector<uint32_t>(60, i + 1), sae)),
              1e-4);
  }
}

TEST(ActivationsTest, TextsGetBosUnlessAskedNotTo) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.0.hook_resid_pre");
  const auto response = ComputeOrDie(RequestFor({Text("ab"), Text("ab", true)}, {sae}));
  const std::vector<Token>& with_bos = response.texts[0].tokens;
  ASSERT_EQ(with_bos.size(), 3u);
  EXPECT_TRUE(with_bos[0].special);
  EXPECT_EQ(with_bos[1].bytes, "a");
  EXPECT_EQ(with_bos[1].display, "a");
  EXPECT_FALSE(with_bos[1].special);
  EXPECT_EQ(response.texts[1].tokens.size(), 2u);
}

TEST(ActivationsTest, SpecialTokensAreLeftOutUnlessAskedFor) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.0.hook_resid_pre");
  auto request = RequestFor({Ids({0, 7, 8})}, {sae});
  const auto without = ComputeOrDie(request);
  EXPECT_EQ(without.texts[0].saes[0].acts.row_offsets[1], 0u);
  request.include_special_tokens = true;
  const auto with = ComputeOrDie(request);
  EXPECT_GT(with.texts[0].saes[0].acts.row_offsets[1], 0u);
  EXPECT_LT(MaxDifference(Dense(with.texts[0].saes[0].acts), DenseCode({0, 7, 8}, sae)), 1e-5);
  // The statistics never count them.
  EXPECT_EQ(with.texts[0].saes[0].l0, without.texts[0].saes[0].l0);
  EXPECT_EQ(with.texts[0].saes[0].explained_variance, without.texts[0].saes[0].explained_variance);
}

TEST(ActivationsTest, StatisticsFollowTheirDefinitions) {
  const SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  const std::vector<uint32_t> ids = {0, 40, 41, 42, 43, 44};
  const auto response = ComputeOrDie(RequestFor({Ids(ids)}, {sae}));
  const auto x = ValueAt(*TinyTransformer(), ids, sae.hook).slice(0, 1);  // without BOS
  const auto encoded = *sae.sae->Encode(x);
  const double unexplained = (x - sae.sae->Decode(encoded)).square().sum().item<double>();
  const double total = (x - x.mean(0, true)).square().sum().item<double>();
  EXPECT_NEAR(response.texts[0].saes[0].l0,
              static_cast<double>(encoded.acts.nnz()) / static_cast<double>(ids.size() - 1), 1e-5);
  EXPECT_NEAR(response.texts[0].saes[0].explained_variance, 1 - unexplained / total, 1e-4);
}

TEST(ActivationsTest, StatisticsThatAreNotDefinedAreNan) {
  const SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  const auto response = ComputeOrDie(RequestFor({Ids({0}), Ids({5})}, {sae}));
  EXPECT_TRUE(std::isnan(response.texts[0].saes[0].l0));
  EXPECT_TRUE(std::isnan(response.texts[0].saes[0].explained_variance));
  EXPECT_GT(response.texts[1].saes[0].l0, 0);
  EXPECT_TRUE(std::isnan(response.texts[1].saes[0].explained_variance));
}

TEST(ActivationsTest, ChosenFeaturesAreTheSameWithAndWithoutStatistics) {
  for (const char* architecture : {"standard", "topk"}) {
    const SaeRef sae = RandomSaeRef(architecture, "blocks.1.hook_resid_post");
    const std::vector<uint32_t> ids = {10, 20, 30, 40, 50};
    auto request = RequestFor({Ids(ids)}, {sae});
    request.selection = TheseFeatures{{70, 2, 31, 2}};
    const auto full = ComputeOrDie(request);
    request.statistics = false;
    const auto cheap = ComputeOrDie(request);
    const auto expected = DenseCode(ids, sae);
    for (const auto* response : {&full, &cheap}) {
      const auto dense = Dense(response->texts[0].saes[0].acts);
      ASSERT_EQ(dense.size(1), 96);
      for (int64_t feature = 0; feature < 96; ++feature) {
        const bool chosen = feature == 70 || feature == 2 || feature == 31;
        const auto want = chosen ? expected.select(1, feature) : torch::zeros({5});
        EXPECT_LT(MaxDifference(dense.select(1, feature), want), 1e-4) << feature;
      }
    }
    EXPECT_TRUE(std::isnan(cheap.texts[0].saes[0].l0));
  }
}

TEST(ActivationsTest, ChoosingAllFeaturesIsChoosingNone) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.1.hook_resid_post");
  auto request = RequestFor({Ids({10, 20, 30})}, {sae});
  const auto all = ComputeOrDie(request).texts[0].saes[0].acts;
  TheseFeatures every;
  for (uint32_t feature = 0; feature < 96; ++feature) every.ids.push_back(95 - feature);
  request.selection = every;
  const auto chosen = ComputeOrDie(request).texts[0].saes[0].acts;
  EXPECT_EQ(chosen.row_offsets, all.row_offsets);
  EXPECT_EQ(chosen.indices, all.indices);
  EXPECT_EQ(chosen.values, all.values);
}

TEST(ActivationsTest, TopKPerTokenKeepsTheStrongest) {
  const SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  const std::vector<uint32_t> ids = {10, 20, 30};
  auto request = RequestFor({Ids(ids)}, {sae});
  request.selection = TopKPerToken{4};
  const auto acts = Dense(ComputeOrDie(request).texts[0].saes[0].acts);
  const auto expected = std::get<0>(DenseCode(ids, sae).topk(4, 1));
  EXPECT_LT(MaxDifference(std::get<0>(acts.topk(4, 1)), expected), 1e-5);
  EXPECT_EQ(acts.count_nonzero().item<int64_t>(), 12);
}

TEST(ActivationsTest, TopOverTextRanksByItsScoreOverItsPositions) {
  const SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  const std::vector<uint32_t> ids = {0, 10, 20, 30, 40};
  const auto code = DenseCode(ids, sae);
  const auto at = [&](std::vector<int64_t> rows) {
    return code.index_select(0, torch::tensor(rows));
  };
  const struct {
    TopOverText top;
    torch::Tensor scores;
  } cases[] = {
      {{3, TextScore::kMax, {}}, at({1, 2, 3, 4}).amax(0)},
      {{3, TextScore::kMean, {}}, at({1, 2, 3, 4}).mean(0)},
      {{3, TextScore::kSum, {2, 4}}, at({2, 4}).sum(0)},
      {{3, TextScore::kMax, {0, 3}}, at({3}).amax(0)},  // BOS does not count
  };
  for (const auto& c : cases) {
    auto request = RequestFor({Ids(ids)}, {sae});
    request.selection = c.top;
    const auto response = ComputeOrDie(request);
    const SaeActivations& result = response.texts[0].saes[0];
    const auto [values, indices] = c.scores.topk(3);
    ASSERT_EQ(result.top_features.size(), 3u);
    const auto acts = Dense(result.acts);
    for (int64_t i = 0; i < 3; ++i) {
      const auto feature = indices[i].item<int64_t>();
      EXPECT_EQ(result.top_features[static_cast<size_t>(i)], feature);
      EXPECT_NEAR(result.top_scores[static_cast<size_t>(i)], values[i].item<float>(), 1e-4);
      // At every token of the text but the special one.
      EXPECT_LT(
          MaxDifference(acts.select(1, feature).slice(0, 1), code.select(1, feature).slice(0, 1)),
          1e-4);
    }
    EXPECT_EQ(acts.abs().sum(0).count_nonzero().item<int64_t>(), 3);
  }
}

TEST(ActivationsTest, MinActivationLeavesOutWhatIsSmaller) {
  const SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  const std::vector<uint32_t> ids = {10, 20, 30};
  auto request = RequestFor({Ids(ids)}, {sae});
  request.min_activation = 2.0f;
  const auto acts = ComputeOrDie(request).texts[0].saes[0].acts;
  const auto code = DenseCode(ids, sae);
  EXPECT_EQ(static_cast<int64_t>(acts.values.size()), (code >= 2.0).sum().item<int64_t>());
  for (const float value : acts.values) EXPECT_GE(value, 2.0f);
}

TEST(ActivationsTest, MistakesAreNamedWithTheirValueAndRange) {
  const SaeRef sae = RandomSaeRef("topk", "blocks.1.hook_resid_post");
  const auto message = [](const ActivationsRequest& request, absl::StatusCode code) {
    const absl::Status status = StatusOf(request);
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  auto request = RequestFor({Ids({5})}, {sae});

  request.selection = TheseFeatures{{70000}};
  EXPECT_THAT(message(request, kInvalid), HasSubstr("feature 70000 is out of range [0, 96)"));
  request.selection = TheseFeatures{};
  EXPECT_THAT(message(request, kInvalid), HasSubstr("features: the list is empty"));
  request.selection = TheseFeatures{std::vector<uint32_t>(97, 1)};
  EXPECT_THAT(message(request, kInvalid), HasSubstr("the list has 97 ids"));
  request.selection = TopKPerToken{0};
  EXPECT_THAT(message(request, kInvalid), HasSubstr("top_k_per_token must be at least 1"));
  request.selection = TopOverText{1, TextScore::kMax, {1}};
  EXPECT_THAT(message(request, kInvalid),
              HasSubstr("position 1 is out of range [0, 1) in inputs[0]"));
  request.selection = AllPositive{};
  request.min_activation = std::nanf("");
  EXPECT_THAT(message(request, kInvalid), HasSubstr("min_activation is nan"));

  EXPECT_THAT(message(RequestFor({}, {sae}), kInvalid), HasSubstr("there are 0 inputs"));
  EXPECT_THAT(message(RequestFor(std::vector<TextInput>(65, Ids({1})), {sae}), kInvalid),
              HasSubstr("there are 65 inputs, it must be 1 to 64"));
  EXPECT_THAT(message(RequestFor({Ids({1})}, {}), kInvalid), HasSubstr("there are 0 SAEs"));
  EXPECT_THAT(message(RequestFor({Ids({1}), Text("")}, {sae}), kInvalid),
              HasSubstr("inputs[1]: the text is empty"));
  EXPECT_THAT(message(RequestFor({Ids({})}, {sae}), kInvalid),
              HasSubstr("inputs[0]: there are no token ids"));
  EXPECT_THAT(message(RequestFor({Ids({1, 131})}, {sae}), kInvalid),
              HasSubstr("token id 131 at position 1 is out of range [0, 131)"));
  EXPECT_THAT(message(RequestFor({Text(std::string(64, 'a'))}, {sae}), kInvalid),
              HasSubstr("inputs[0] has 65 tokens, the model takes at most 64"));

  SaeRef elsewhere = sae;
  elsewhere.hook = *HookPoint::Parse("blocks.1.mlp.hook_post");
  EXPECT_THAT(message(RequestFor({Ids({1})}, {elsewhere}), kInvalid),
              HasSubstr("has d_in 48, but blocks.1.mlp.hook_post of the model is 192 wide"));
  elsewhere.hook = *HookPoint::Parse("blocks.7.hook_resid_post");
  EXPECT_THAT(message(RequestFor({Ids({1})}, {elsewhere}), kInvalid), HasSubstr("SAE topk1"));

  auto without_tokenizer = RequestFor({Text("a")}, {sae});
  without_tokenizer.model.tokenizer = nullptr;
  EXPECT_THAT(message(without_tokenizer, absl::StatusCode::kFailedPrecondition),
              HasSubstr("the model has no tokenizer"));
}

TEST(ActivationsTest, TokenIdsNeedNoTokenizer) {
  auto request = RequestFor({Ids({0, 9})}, {RandomSaeRef("topk", "blocks.0.hook_resid_pre")});
  request.model.tokenizer = nullptr;
  const auto response = ComputeOrDie(request);
  EXPECT_TRUE(response.texts[0].tokens[0].special);  // as config.json says
  EXPECT_EQ(response.texts[0].tokens[1].display, "[9]");
  EXPECT_THAT(response.texts[0].tokens[1].bytes, IsEmpty());
}

TEST(ActivationsTest, AFullQueueRefuses) {
  DeviceWorker worker({.max_waiting = 0});
  const auto request = RequestFor({Ids({1})}, {RandomSaeRef("topk", "blocks.0.hook_resid_pre")});
  EXPECT_EQ(ComputeActivations(request, worker).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ActivationsTest, ACancelledRequestDoesNotRun) {
  auto request = RequestFor({Ids({1})}, {RandomSaeRef("topk", "blocks.0.hook_resid_pre")});
  request.cancel.Cancel();
  EXPECT_EQ(StatusOf(request).code(), absl::StatusCode::kCancelled);
}

TEST(ActivationsTest, AreAnsweredWhileAJobRunsQuanta) {
  DeviceWorker worker({});
  CancelToken stop;
  std::atomic<int> quanta{0};
  std::thread job([&] {
    while (worker
               .RunBackground(stop,
                              [&] {
                                ++quanta;
                                return absl::OkStatus();
                              })
               .ok()) {
    }
  });
  const auto request = RequestFor({Ids({1, 2})}, {RandomSaeRef("topk", "blocks.0.hook_resid_pre")});
  for (int i = 0; i < 20; ++i) {
    const int before = quanta;
    EXPECT_TRUE(ComputeActivations(request, worker).ok());
    while (quanta == before) std::this_thread::yield();  // and the job goes on
  }
  stop.Cancel();
  job.join();
}

}  // namespace
}  // namespace featurescope
