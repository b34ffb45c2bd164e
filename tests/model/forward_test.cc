#include <cmath>

#include "tests/model/support.h"

namespace featurescope {
namespace {

constexpr double kSame = 5e-5;  // rounding of values up to 30: other order of sums

// Lengths chosen so that equal neighbours, ones, and tiles of the fused attention all occur.
std::vector<std::vector<uint32_t>> RaggedSequences() {
  std::vector<std::vector<uint32_t>> sequences;
  uint32_t token = 7;
  for (int length : {3, 3, 1, 40, 5, 33, 33, 2, 64}) {
    std::vector<uint32_t>& sequence = sequences.emplace_back();
    for (int i = 0; i < length; ++i) {
      token = token * 37 + 11;
      sequence.push_back(token % 131);
    }
  }
  return sequences;
}

class ForwardTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    model_ = LoadOrDie(GoldenModel(GetParam()));
    ASSERT_NE(model_, nullptr);
  }
  std::shared_ptr<const Transformer> model_;
};

TEST_P(ForwardTest, RaggedBatchEqualsSingleSequences) {
  const auto sequences = RaggedSequences();
  const torch::Tensor packed = MustForward(*model_, BatchOf(sequences), LogitsOf::kAllTokens);
  int64_t begin = 0;
  for (const auto& sequence : sequences) {
    const auto length = static_cast<int64_t>(sequence.size());
    EXPECT_LT(MaxAbsDifference(MustForward(*model_, BatchOf({sequence}), LogitsOf::kAllTokens),
                               packed.narrow(0, begin, length)),
              kSame)
        << "length " << length;
    begin += length;
  }
}

TEST_P(ForwardTest, LastTokenLogitsAreTheLastRowsOfAllLogits) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  const torch::Tensor all = MustForward(*model_, batch, LogitsOf::kAllTokens);
  const torch::Tensor last = MustForward(*model_, batch, LogitsOf::kLastToken);
  ASSERT_EQ(last.size(0), batch.n_sequences());
  for (int64_t i = 0; i < batch.n_sequences(); ++i) {
    EXPECT_LT(MaxAbsDifference(last[i], all[batch.offsets[static_cast<size_t>(i + 1)] - 1]), kSame);
  }
}

TEST_P(ForwardTest, DecodingWithCachesEqualsTheFullPass) {
  const auto sequences = RaggedSequences();
  std::vector<std::unique_ptr<KvCache>> caches;
  std::vector<torch::Tensor> full;
  for (const auto& sequence : sequences) {
    caches.push_back(model_->NewCache());
    full.push_back(MustForward(*model_, BatchOf({sequence}), LogitsOf::kAllTokens));
  }
  // Chunks of different sizes, so that rows are at different places in one batch.
  const std::vector<int64_t> chunks = {1, 2, 7, 1, 1, 30, 1, 64};
  for (size_t step = 0; step < chunks.size(); ++step) {
    SequenceBatch batch;
    std::vector<std::pair<size_t, int64_t>> last;  // sequence, position
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto length = static_cast<int64_t>(sequences[i].size());
      const int64_t begin = caches[i]->length();
      const int64_t n = std::min(chunks[(step + i) % chunks.size()], length - begin);
      if (n <= 0) continue;
      batch.Append(absl::MakeConstSpan(sequences[i]).subspan(begin, n), caches[i].get());
      last.push_back({i, begin + n - 1});
    }
    if (last.empty()) break;
    const torch::Tensor logits = MustForward(*model_, batch, LogitsOf::kLastToken);
    for (size_t row = 0; row < last.size(); ++row) {
      EXPECT_LT(MaxAbsDifference(logits[static_cast<int64_t>(row)],
                                 full[last[row].first][last[row].second]),
                kSame)
          << "sequence " << last[row].first << " position " << last[row].second;
    }
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(caches[i]->length(), static_cast<int64_t>(sequences[i].size()));
  }
}

TEST_P(ForwardTest, PatternsWithCachesEqualTheFullPass) {
  const std::vector<uint32_t> tokens = RaggedSequences()[3];
  const HookPoint hook = Hook("blocks.1.attn.hook_pattern");
  Recorder whole({hook});
  MustForward(*model_, BatchOf({tokens}), LogitsOf::kNone, whole.set());
  const auto cache = model_->NewCache();
  SequenceBatch prompt;
  prompt.Append(absl::MakeConstSpan(tokens).first(30), cache.get());
  MustForward(*model_, prompt, LogitsOf::kNone);
  ASSERT_EQ(cache->length(), 30);
  SequenceBatch rest;
  rest.Append(absl::MakeConstSpan(tokens).subspan(30), cache.get());
  Recorder continued({hook});
  MustForward(*model_, rest, LogitsOf::kNone, continued.set());
  EXPECT_EQ(cache->length(), 40);
  EXPECT_LT(MaxAbsDifference(continued.one(hook.name()), whole.one(hook.name()).narrow(2, 30, 10)),
            kSame);
}

TEST_P(ForwardTest, StoppingEarlyGivesTheHookOfTheFullPass) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  const std::vector<HookPoint> hooks = model_->config().AllHooks();
  Recorder full(hooks);
  MustForward(*model_, batch, LogitsOf::kAllTokens, full.set());
  for (const HookPoint& hook : hooks) {
    Recorder early({hook});
    EXPECT_FALSE(MustForward(*model_, batch, LogitsOf::kNone, early.set()).defined());
    const auto& want = full.all().at(hook.name());
    const auto& got = early.all().at(hook.name());
    ASSERT_EQ(got.size(), want.size()) << hook.name();
    for (size_t i = 0; i < want.size(); ++i) {
      // Scores hold -inf where the mask hides: compared as weights.
      const bool scores = hook.kind == HookKind::kAttnScores;
      EXPECT_LT(MaxAbsDifference(scores ? got[i].softmax(-1) : got[i],
                                 scores ? want[i].softmax(-1) : want[i]),
                kSame)
          << hook.name();
    }
  }
}

TEST_P(ForwardTest, NothingRunsAfterTheLastHook) {
  // A cancelled pass fails after its first block; one that ends within it does not get there.
  HookSet hooks;
  CancelToken cancel;
  hooks.Add(Hook("blocks.0.hook_resid_pre"),
            [&](const HookContext&, torch::Tensor&) { cancel.Cancel(); });
  ForwardOptions options;
  options.hooks = &hooks;
  options.cancel = cancel;
  options.logits = LogitsOf::kAllTokens;
  EXPECT_EQ(model_->Forward(BatchOf({{1, 2}}), options).status().code(),
            absl::StatusCode::kCancelled);
}

TEST_P(ForwardTest, PatternsComeInGroupsThatCoverTheBatchInOrder) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  const HookPoint hook = Hook("blocks.0.attn.hook_pattern");
  Recorder recorder({hook});
  MustForward(*model_, batch, LogitsOf::kNone, recorder.set());
  const auto& groups = recorder.all().at(hook.name());
  int64_t next = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(recorder.firsts(hook.name())[i], next);
    const torch::Tensor& pattern = groups[i];
    for (int64_t s = 0; s < pattern.size(0); ++s, ++next) {
      const auto at = static_cast<size_t>(next);
      EXPECT_EQ(pattern.size(2), batch.offsets[at + 1] - batch.offsets[at]);
    }
    EXPECT_LT(MaxAbsDifference(pattern.sum(-1), torch::ones(pattern.sizes().slice(0, 3))), 1e-5);
    EXPECT_EQ(pattern.triu(1).abs().max().item<float>(), 0);
  }
  EXPECT_EQ(next, batch.n_sequences());
  EXPECT_EQ(groups.size(), 7u);  // 3 3 | 1 | 40 | 5 | 33 33 | 2 | 64
}

TEST_P(ForwardTest, KeptHookValuesAreNotOverwrittenByLaterLayers) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  std::vector<torch::Tensor> kept;
  std::vector<torch::Tensor> copies;
  HookSet hooks;
  for (const HookPoint& hook : model_->config().AllHooks()) {
    hooks.Add(hook, [&](const HookContext&, torch::Tensor& value) {
      kept.push_back(value);
      copies.push_back(value.clone());
    });
  }
  MustForward(*model_, batch, LogitsOf::kAllTokens, &hooks);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(kept[i], copies[i])) << i;
}

TEST_P(ForwardTest, SameBatchTwiceGivesTheSameBits) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  EXPECT_TRUE(torch::equal(MustForward(*model_, batch, LogitsOf::kAllTokens),
                           MustForward(*model_, batch, LogitsOf::kAllTokens)));
}

// What an editor puts at a hook point is what all later points compute with: moving the last
// residual stream changes the logits as norm and unembedding of the moved stream.
TEST_P(ForwardTest, EditedResidualGivesTheLogitsComputedByHand) {
  const ModelConfig& config = model_->config();
  const HookPoint last{HookKind::kResidPost, config.n_layers - 1};
  const HookPoint normed{HookKind::kLnFinal, -1};
  torch::manual_seed(3);
  const torch::Tensor delta = torch::randn({config.d_model});
  torch::Tensor residual, final_hook;
  HookSet hooks;
  hooks.Add(last, [&](const HookContext&, torch::Tensor& value) { value = value + delta; });
  hooks.Add(last, [&](const HookContext&, torch::Tensor& value) { residual = value; });
  hooks.Add(normed, [&](const HookContext&, torch::Tensor& value) { final_hook = value; });
  const SequenceBatch batch = BatchOf({{5, 9, 2, 77}});
  const torch::Tensor logits = MustForward(*model_, batch, LogitsOf::kAllTokens, &hooks);

  const auto tensors = ReadTensors(GoldenModel(GetParam()) + "/model.safetensors");
  torch::Tensor by_hand;
  if (config.norm == NormKind::kLayerNorm) {
    const std::string name =
        config.model_type == "gpt2" ? "transformer.ln_f" : "gpt_neox.final_layer_norm";
    by_hand = torch::layer_norm(residual, {config.d_model}, tensors.at(name + ".weight"),
                                tensors.at(name + ".bias"), config.norm_eps);
    EXPECT_LT(MaxAbsDifference(final_hook, by_hand), kSame);
  } else {
    by_hand = residual / (residual.square().mean(-1, true) + config.norm_eps).sqrt();
    EXPECT_LT(MaxAbsDifference(final_hook, by_hand), kSame);
    by_hand = by_hand * (tensors.at("model.norm.weight") + config.norm_weight_offset);
  }
  by_hand = by_hand.mm(model_->unembedding());
  if (config.logit_soft_cap > 0) {
    by_hand = (by_hand / config.logit_soft_cap).tanh() * config.logit_soft_cap;
  }
  EXPECT_LT(MaxAbsDifference(logits, by_hand), kSame);
  Recorder plain({last});
  MustForward(*model_, batch, LogitsOf::kNone, plain.set());
  EXPECT_LT(MaxAbsDifference(residual - delta, plain.one(last.name())), kSame);
}

TEST_P(ForwardTest, OutputsAddUpToTheResidualAndEditedOnesCount) {
  const bool parallel = model_->config().parallel_residual;
  HookSet hooks;
  torch::Tensor pre, mid, post, mlp_in, mlp_out;
  const auto keep = [](torch::Tensor* to) {
    return [to](const HookContext&, torch::Tensor& value) { *to = value; };
  };
  hooks.Add(Hook("blocks.1.hook_resid_pre"), keep(&pre));
  hooks.Add(Hook("blocks.1.hook_attn_out"),
            [](const HookContext&, torch::Tensor& value) { value = torch::full_like(value, 0.5); });
  if (!parallel) hooks.Add(Hook("blocks.1.hook_resid_mid"), keep(&mid));
  hooks.Add(Hook("blocks.1.mlp.hook_pre"), keep(&mlp_in));
  hooks.Add(Hook("blocks.1.hook_mlp_out"), [&](const HookContext&, torch::Tensor& value) {
    value = value * 2;
    mlp_out = value;
  });
  hooks.Add(Hook("blocks.1.hook_resid_post"), keep(&post));
  const SequenceBatch batch = BatchOf({{5, 9, 2, 77}, {1, 2}});
  MustForward(*model_, batch, LogitsOf::kNone, &hooks);
  if (!parallel) EXPECT_LT(MaxAbsDifference(mid, pre + 0.5), 1e-6);
  EXPECT_LT(MaxAbsDifference(post, pre + 0.5 + mlp_out), 1e-5);

  // The MLP of a parallel block does not see attention's result, that of a sequential one does.
  Recorder unedited({Hook("blocks.1.mlp.hook_pre")});
  MustForward(*model_, batch, LogitsOf::kNone, unedited.set());
  const double moved = MaxAbsDifference(mlp_in, unedited.one("blocks.1.mlp.hook_pre"));
  EXPECT_EQ(moved == 0, parallel) << moved;
}

// Observing scores or patterns switches from the fused loop to LibTorch's operators.
TEST_P(ForwardTest, ObservedAttentionEqualsTheFusedOne) {
  const SequenceBatch batch = BatchOf(RaggedSequences());
  std::vector<HookPoint> hooks;
  for (int layer = 0; layer < model_->config().n_layers; ++layer) {
    hooks.push_back(HookPoint{HookKind::kPattern, layer});
  }
  Recorder recorder(hooks);
  EXPECT_LT(MaxAbsDifference(MustForward(*model_, batch, LogitsOf::kAllTokens, recorder.set()),
                             MustForward(*model_, batch, LogitsOf::kAllTokens)),
            kSame);
}

TEST_P(ForwardTest, QueriesSeeTheirWindowAndNothingElse) {
  const std::vector<uint32_t> tokens = RaggedSequences()[3];
  const auto n = static_cast<int64_t>(tokens.size());
  for (int layer = 0; layer < model_->config().n_layers; ++layer) {
    const HookPoint hook{HookKind::kPattern, layer};
    Recorder recorder({hook});
    MustForward(*model_, BatchOf({tokens}), LogitsOf::kNone, recorder.set());
    torch::Tensor seen = torch::ones({n, n}).tril();
    const int64_t window = model_->config().WindowOf(layer);
    if (window > 0) seen = seen.triu(1 - window);
    const torch::Tensor pattern = recorder.one(hook.name())[0];  // [head, query, key]
    EXPECT_TRUE(torch::equal((pattern > 0).to(torch::kFloat32), seen.expand_as(pattern)))
        << hook.name();
  }
}

TEST_P(ForwardTest, EditedPatternGivesZComputedByHand) {
  const ModelConfig& config = model_->config();
  torch::Tensor v, z;
  HookSet hooks;
  // Every query looks at key 0 only.
  hooks.Add(Hook("blocks.0.attn.hook_pattern"), [](const HookContext&, torch::Tensor& value) {
    value = torch::zeros_like(value);
    value.select(3, 0).fill_(1);
  });
  hooks.Add(Hook("blocks.0.attn.hook_v"),
            [&](const HookContext&, torch::Tensor& value) { v = value; });
  hooks.Add(Hook("blocks.0.attn.hook_z"),
            [&](const HookContext&, torch::Tensor& value) { z = value; });
  MustForward(*model_, BatchOf({{5, 9, 2, 77}, {1, 2}}), LogitsOf::kNone, &hooks);
  const torch::Tensor of_head = v.repeat_interleave(config.n_heads / config.n_kv_heads, 1);
  for (int64_t token = 0; token < 6; ++token) {
    EXPECT_LT(MaxAbsDifference(z[token], of_head[token < 4 ? 0 : 4]), 1e-6);
  }
}

TEST_P(ForwardTest, EditedQueryAndScoresActOnThePattern) {
  torch::Tensor pattern;
  HookSet hooks;
  hooks.Add(Hook("blocks.0.attn.hook_q"),
            [](const HookContext&, torch::Tensor& value) { value = torch::zeros_like(value); });
  hooks.Add(Hook("blocks.0.attn.hook_attn_scores"), [](const HookContext&, torch::Tensor& value) {
    value = value.clone();
    value.index_put_({torch::indexing::Slice(), 0, 2}, -std::numeric_limits<float>::infinity());
  });
  hooks.Add(Hook("blocks.0.attn.hook_pattern"),
            [&](const HookContext&, torch::Tensor& value) { pattern = value; });
  MustForward(*model_, BatchOf({{5, 9, 2, 77}}), LogitsOf::kNone, &hooks);
  // Zero queries attend evenly; a row hidden as a whole attends to nothing.
  EXPECT_NEAR(pattern[0][1][3][0].item<float>(), 0.25, 1e-6);
  EXPECT_NEAR(pattern[0][1][2][1].item<float>(), 1.0 / 3, 1e-6);
  EXPECT_EQ(pattern[0][0][2].abs().max().item<float>(), 0);
}

TEST_P(ForwardTest, RefusesBadBatches) {
  const ForwardOptions options;
  const auto status = [&](const SequenceBatch& batch) {
    return model_->Forward(batch, options).status();
  };
  EXPECT_EQ(status(SequenceBatch()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status(BatchOf({{1}, {}})).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status(BatchOf({{1, 131}})).message(), "token 131 is out of range [0, 131)");
  const auto n_ctx = static_cast<size_t>(model_->config().n_ctx);
  const absl::Status too_long = status(BatchOf({{1}, std::vector<uint32_t>(n_ctx + 1, 1)}));
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(too_long.message().find(std::to_string(n_ctx)), std::string::npos);
  EXPECT_TRUE(status(BatchOf({std::vector<uint32_t>(n_ctx, 1)})).ok());

  const auto cache = model_->NewCache();
  SequenceBatch first;
  first.Append(std::vector<uint32_t>(n_ctx - 1, 1), cache.get());
  EXPECT_TRUE(status(first).ok());
  SequenceBatch second;
  second.Append(std::vector<uint32_t>(2, 1), cache.get());
  EXPECT_EQ(status(second).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cache->length(), static_cast<int64_t>(n_ctx) - 1);
  SequenceBatch twice;
  const auto fresh = model_->NewCache();
  twice.Append({1}, fresh.get());
  twice.Append({1}, fresh.get());
  EXPECT_EQ(status(twice).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(ForwardTest, RefusesHooksThatTheModelDoesNotHave) {
  HookSet hooks;
  hooks.Add(Hook("blocks.7.hook_resid_post"), [](const HookContext&, torch::Tensor&) {});
  ForwardOptions options;
  options.hooks = &hooks;
  const absl::Status status = model_->Forward(BatchOf({{1}}), options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("layer 7 is out of range"), std::string::npos) << status;
}

TEST_P(ForwardTest, AnEditorThatChangesTheShapeIsABug) {
  HookSet hooks;
  hooks.Add(Hook("blocks.0.hook_resid_pre"),
            [](const HookContext&, torch::Tensor& value) { value = value.narrow(1, 0, 3); });
  ForwardOptions options;
  options.hooks = &hooks;
  EXPECT_EQ(model_->Forward(BatchOf({{1, 2}}), options).status().code(),
            absl::StatusCode::kInternal);
}

TEST_P(ForwardTest, CancelledPassLeavesTheCacheAsItWas) {
  const auto cache = model_->NewCache();
  SequenceBatch batch;
  batch.Append({1, 2, 3}, cache.get());
  ForwardOptions options;
  options.logits = LogitsOf::kLastToken;
  options.cancel.Cancel();
  EXPECT_EQ(model_->Forward(batch, options).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(cache->length(), 0);
  options.cancel = CancelToken(absl::InfinitePast());
  EXPECT_EQ(model_->Forward(batch, options).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(ForwardTest, Bfloat16StaysNearFloat32) {
  LoadOptions options;
  options.dtype = torch::kBFloat16;
  const auto narrow = LoadOrDie(GoldenModel(GetParam()), options);
  ASSERT_NE(narrow, nullptr);
  const SequenceBatch batch = BatchOf(RaggedSequences());
  const torch::Tensor want = MustForward(*model_, batch, LogitsOf::kAllTokens);
  const torch::Tensor got = MustForward(*narrow, batch, LogitsOf::kAllTokens);
  EXPECT_EQ(got.scalar_type(), torch::kFloat32);
  // 8 bits of precision through a few layers, relative to the logits' size.
  EXPECT_LT((got - want).norm().item<double>() / want.norm().item<double>(), 0.05);
  EXPECT_LT(narrow->memory_bytes(), model_->memory_bytes());
}

INSTANTIATE_TEST_SUITE_P(All, ForwardTest,
                         testing::Values("gpt2", "gpt_neox", "gpt_neox_sequential", "llama",
                                         "mistral", "qwen2", "qwen3", "gemma", "gemma2"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace featurescope
