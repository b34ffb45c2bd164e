#include "server/explore/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "tests/base/temp_dir.h"
#include "tests/explore/explore_fixture.h"

namespace featurescope {
namespace {

constexpr uint32_t kVocab = 131;
constexpr int64_t kDIn = 48;

SparseRows Sparse(const torch::Tensor& dense) { return PositiveEntries(dense); }

TEST(ReconstructionMetricsTest, AgreesWithTwoTokensComputedByHand) {
  const auto y = torch::tensor({{3.0f, 4.0f}, {1.0f, 0.0f}});
  const auto y_hat = torch::tensor({{3.0f, 3.0f}, {0.0f, 0.0f}});
  // mean (2, 2): |y - m|^2 is 1 + 4 and 1 + 4; the residuals are 1 and 1.
  ReconstructionMetrics sums(4, torch::tensor({2.0, 2.0}, torch::kFloat64));
  sums.Add(y, y_hat, Sparse(torch::tensor({{0.5f, 0.0f, 3.0f, 0.0f}, {0.0f, 0.0f, 1.0f, 0.0f}})));
  EvaluationResult result;
  sums.Report(&result);
  auto& m = result.metrics;
  EXPECT_EQ(result.n_tokens, 2);
  EXPECT_DOUBLE_EQ(m["mse"], 2.0 / 4);
  EXPECT_DOUBLE_EQ(m["fvu"], 2.0 / 10);
  EXPECT_DOUBLE_EQ(m["explained_variance"], 0.8);
  EXPECT_DOUBLE_EQ(m["explained_variance_legacy"], 1 - (1.0 / 5 + 1.0 / 5) / 2);
  EXPECT_NEAR(m["cosine_similarity"], (21.0 / (5 * std::sqrt(18.0)) + 0) / 2, 1e-12);
  EXPECT_NEAR(m["l2_ratio"], (std::sqrt(18.0) / 5 + 0) / 2, 1e-12);
  EXPECT_NEAR(m["reconstruction_bias"], 18.0 / 21, 1e-12);
  EXPECT_DOUBLE_EQ(m["l0"], 1.5);
  EXPECT_DOUBLE_EQ(m["l1"], 4.5 / 2);
  EXPECT_DOUBLE_EQ(m["dead_share"], 0.5);
  EXPECT_DOUBLE_EQ(m["dense_share"], 0.5);
  const MetricHistogram& l0 = result.histograms["l0"];
  ASSERT_EQ(l0.edges.size(), l0.counts.size() + 1);
  EXPECT_EQ(l0.counts[1], 1);  // one active feature
  EXPECT_EQ(l0.counts[2], 1);  // two or three
  const MetricHistogram& activation = result.histograms["activation"];
  for (size_t i = 0; i < activation.counts.size(); ++i) {
    const double edge = activation.edges[i];
    EXPECT_EQ(activation.counts[i], edge == 0.5 || edge == 1 || edge == 2 ? 1 : 0) << edge;
  }
}

TEST(MeasurePredictionsTest, CrossEntropyAndDivergenceOfTwoTokens) {
  // softmax of log p is p.
  const auto clean = torch::tensor({{0.5f, 0.25f, 0.25f}, {1.0f / 3, 1.0f / 3, 1.0f / 3}}).log();
  const auto other = torch::tensor({{0.25f, 0.5f, 0.25f}, {0.8f, 0.1f, 0.1f}}).log();
  const auto rows = torch::tensor({0, 1}, torch::kInt64);
  const auto targets = torch::tensor({1, 0}, torch::kInt64);
  const PredictionSums sums = MeasurePredictions(other, rows, targets, clean);
  EXPECT_NEAR(sums.cross_entropy, -std::log(0.5) - std::log(0.8), 1e-6);
  const double first = 0.5 * std::log(2.0) + 0.25 * std::log(0.5);
  const double second = (std::log(1 / 2.4) + 2 * std::log(1 / 0.3)) / 3;
  EXPECT_NEAR(sums.kl, first + second, 1e-6);
  EXPECT_NEAR(MeasurePredictions(clean, rows, targets, clean).kl, 0, 1e-7);
}

TEST(ReportPredictionsTest, LossRecoveredAndErrorByHand) {
  EvaluationResult result;
  // Two contexts of 2 and 4 predicted tokens.
  ReportPredictions({2, 4}, {{4, 0}, {8, 0}}, {{5, 0.6}, {8, 0.6}}, {{10, 3}, {20, 3}},
                    {{7, 1}, {14, 1}}, &result);
  auto& m = result.metrics;
  EXPECT_EQ(result.n_predicted, 6);
  EXPECT_DOUBLE_EQ(m["ce_clean"], 2);
  EXPECT_DOUBLE_EQ(m["ce_sae"], 13.0 / 6);
  EXPECT_NEAR(m["ce_loss_recovered"], (30.0 - 13) / (30 - 12), 1e-12);
  EXPECT_NEAR(m["ce_loss_recovered_mean"], (21.0 - 13) / (21 - 12), 1e-12);
  EXPECT_NEAR(m["kl_score"], (6 - 1.2) / 6, 1e-12);
  // Increases of the contexts: 0.5 and 0.
  EXPECT_NEAR(m["ce_increase_error"], std::sqrt(0.125 / 2), 1e-12);
}

// f = relu(x W), relu(-x W) with W = 1: gives x back exactly.
std::shared_ptr<const Sae> ExactSae(double decoder_scale = 1, const torch::Tensor& b_dec = {}) {
  SaeConfig config = TinySaeConfig("standard");
  config.apply_b_dec_to_input = false;
  const auto eye = torch::eye(kDIn);
  SaeParameters p;
  p.W_enc = torch::cat({eye, -eye}, 1).contiguous();
  p.b_enc = torch::zeros({2 * kDIn});
  p.W_dec = (torch::cat({eye, -eye}, 0) * decoder_scale).contiguous();
  p.b_dec = b_dec.defined() ? b_dec : torch::zeros({kDIn});
  auto sae = Sae::Create(config, p);
  EXPECT_TRUE(sae.ok()) << sae.status();
  return *sae;
}

class EvaluationTest : public testing::Test {
 protected:
  EvaluationTest() : device_(DeviceWorkerOptions()) { run_.device = &device_; }

  std::shared_ptr<const TokenFile> Corpus(uint32_t context_size, double heldout_every = 0) {
    TokenFileSpec spec;
    spec.vocab_size = kVocab;
    spec.context_size = context_size;
    spec.prepend_bos = true;
    auto writer = TokenFileWriter::Create(dir_ / ("corpus" + std::to_string(n_++)), spec);
    EXPECT_TRUE(writer.ok()) << writer.status();
    std::mt19937 random(7);
    for (int d = 0; d < 20; ++d) {
      std::vector<uint32_t> ids(5 + random() % 40);
      for (uint32_t& id : ids) id = 2 + static_cast<uint32_t>(random() % (kVocab - 2));
      const bool held_out = heldout_every > 0 && d % 4 == 3;
      EXPECT_TRUE(writer->AppendDocument(ids, held_out).ok());
    }
    EXPECT_TRUE(writer->Finish().ok());
    return *TokenFile::Open(dir_ / ("corpus" + std::to_string(n_ - 1)));
  }

  EvaluationInputs Inputs(std::shared_ptr<const Sae> sae, uint32_t context_size = 24) {
    EvaluationInputs inputs;
    inputs.sae_id = "sae";
    inputs.model = TinyTransformer();
    inputs.sae = std::move(sae);
    inputs.hook = *HookPoint::Parse("blocks.1.hook_resid_post");
    inputs.corpus = Corpus(context_size);
    return inputs;
  }

  EvaluationResult Run(const EvaluationInputs& inputs, const EvaluationSpec& spec = {}) {
    const auto result = Evaluate(inputs, spec, run_);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : EvaluationResult();
  }

  TempDir dir_;
  DeviceWorker device_;
  RunContext run_;
  int n_ = 0;
};

TEST_F(EvaluationTest, AnExactSaeCostsNothing) {
  EvaluationResult result = Run(Inputs(ExactSae()));
  auto& m = result.metrics;
  EXPECT_NEAR(m["explained_variance"], 1, 1e-9);
  EXPECT_NEAR(m["cosine_similarity"], 1, 1e-9);
  EXPECT_NEAR(m["ce_increase"], 0, 1e-5);
  EXPECT_NEAR(m["kl_sae"], 0, 1e-5);
  EXPECT_NEAR(m["ce_loss_recovered"], 1, 1e-4);
  EXPECT_NEAR(m["ce_loss_recovered_mean"], 1, 1e-4);
  EXPECT_GT(std::abs(m["ce_zero"] - m["ce_clean"]), 1e-2);
  EXPECT_DOUBLE_EQ(m["l0"], kDIn);
}

TEST_F(EvaluationTest, AnSaeThatGivesZeroIsZeroAblation) {
  EvaluationResult result = Run(Inputs(ExactSae(0)));
  auto& m = result.metrics;
  EXPECT_NEAR(m["ce_sae"], m["ce_zero"], 1e-6);
  EXPECT_NEAR(m["kl_sae"], m["kl_zero"], 1e-6);
  EXPECT_NEAR(m["ce_loss_recovered"], 0, 1e-5);
}

TEST_F(EvaluationTest, AnSaeThatGivesTheMeanIsMeanAblation) {
  EvaluationInputs inputs = Inputs(ExactSae());
  torch::Tensor sum = torch::zeros({kDIn});
  int64_t n = 0;
  std::vector<uint32_t> context;
  for (uint64_t c = 0; c < inputs.corpus->n_contexts(); ++c) {
    ASSERT_TRUE(inputs.corpus->Context(c, &context).ok());
    const auto value = ValueAt(*inputs.model, context, inputs.hook);
    for (size_t i = 0; i < context.size(); ++i) {
      if (context[i] == 0) continue;
      sum += value[static_cast<int64_t>(i)];
      ++n;
    }
  }
  inputs.sae = ExactSae(0, sum / static_cast<double>(n));
  EvaluationResult result = Run(inputs);
  EXPECT_EQ(result.n_tokens, static_cast<uint64_t>(n));
  EXPECT_NEAR(result.metrics["ce_sae"], result.metrics["ce_mean"], 1e-5);
  EXPECT_NEAR(result.metrics["fvu"], 1, 1e-5);
}

TEST_F(EvaluationTest, CleanCrossEntropyIsTheModelsOwn) {
  const EvaluationInputs inputs = Inputs(RandomSae(TinySaeConfig("topk")));
  double expected = 0;
  uint64_t n = 0;
  std::vector<uint32_t> context;
  for (uint64_t c = 0; c < inputs.corpus->n_contexts(); ++c) {
    ASSERT_TRUE(inputs.corpus->Context(c, &context).ok());
    SequenceBatch batch;
    batch.Append(context);
    ForwardOptions options;
    options.logits = LogitsOf::kAllTokens;
    const auto log_p = torch::log_softmax(*inputs.model->Forward(batch, options), 1);
    for (size_t i = 0; i + 1 < context.size(); ++i, ++n) {
      expected -=
          log_p[static_cast<int64_t>(i)][static_cast<int64_t>(context[i + 1])].item<double>();
    }
  }
  EvaluationResult result = Run(inputs);
  EXPECT_EQ(result.n_predicted, n);
  EXPECT_EQ(result.n_contexts, inputs.corpus->n_contexts());
  EXPECT_NEAR(result.metrics["ce_clean"], expected / static_cast<double>(n), 1e-5);
}

TEST_F(EvaluationTest, LongContextsInPiecesGiveTheSameNumbers) {
  const EvaluationInputs inputs = Inputs(RandomSae(TinySaeConfig("topk")), 60);
  const EvaluationResult whole = Run(inputs);
  run_.quantum = absl::Nanoseconds(1);  // 16 tokens
  const EvaluationResult pieces = Run(inputs);
  EXPECT_EQ(whole.n_tokens, pieces.n_tokens);
  EXPECT_EQ(whole.n_predicted, pieces.n_predicted);
  EXPECT_EQ(whole.n_contexts, pieces.n_contexts);
  ASSERT_EQ(whole.metrics.size(), pieces.metrics.size());
  for (const auto& [name, value] : whole.metrics) {
    EXPECT_NEAR(pieces.metrics.at(name), value, 1e-4 * (1 + std::abs(value))) << name;
  }
}

TEST_F(EvaluationTest, HeldOutContextsAreWhatIsMeasuredWhereThereAreSome) {
  EvaluationInputs inputs = Inputs(RandomSae(TinySaeConfig("topk")));
  inputs.corpus = Corpus(24, 0.25);
  const ContextRange heldout = inputs.corpus->heldout_contexts();
  ASSERT_GT(heldout.size(), 0);
  EvaluationSpec spec;
  spec.ablations = false;
  EXPECT_EQ(Run(inputs, spec).n_contexts, heldout.size());
  spec.part = EvaluationPart::kAll;
  EXPECT_EQ(Run(inputs, spec).n_contexts, inputs.corpus->n_contexts());
  spec.max_tokens = 1;
  EXPECT_EQ(Run(inputs, spec).n_contexts, 1);
  inputs.corpus = Corpus(24);
  spec.part = EvaluationPart::kHeldOut;
  EXPECT_EQ(Evaluate(inputs, spec, run_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(EvaluationTest, EveryMetricHasADefinitionAndEveryDefinitionAMetric) {
  std::set<std::string> defined;
  for (const MetricDefinition& definition : EvaluationMetricDefinitions()) {
    EXPECT_TRUE(defined.insert(std::string(definition.name)).second) << definition.name;
  }
  std::set<std::string> reported;
  for (const auto& [name, value] : Run(Inputs(RandomSae(TinySaeConfig("topk")))).metrics) {
    EXPECT_TRUE(std::isfinite(value)) << name;
    reported.insert(name);
  }
  EXPECT_EQ(reported, defined);
}

TEST_F(EvaluationTest, ATranscoderIsMeasuredWhereItWrites) {
  EvaluationInputs inputs = Inputs(ExactSae());
  inputs.hook = *HookPoint::Parse("blocks.1.ln2.hook_normalized");
  inputs.hook_out = *HookPoint::Parse("blocks.1.hook_mlp_out");
  EvaluationResult result = Run(inputs);
  EXPECT_LT(result.metrics["explained_variance"], 0.9);  // it copies its input: no transcoder
  EXPECT_GT(std::abs(result.metrics["ce_increase"]), 1e-3);
}

TEST_F(EvaluationTest, RefusesWhatDoesNotFitAndWhatIsOutOfRange) {
  EvaluationInputs inputs = Inputs(ExactSae());
  inputs.hook = *HookPoint::Parse("blocks.1.mlp.hook_post");
  const absl::Status width = Evaluate(inputs, {}, run_).status();
  EXPECT_EQ(width.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(width.message(), testing::HasSubstr("blocks.1.mlp.hook_post"));
  EvaluationSpec spec;
  spec.max_tokens = 0;
  EXPECT_EQ(Evaluate(Inputs(ExactSae()), spec, run_).status().code(),
            absl::StatusCode::kInvalidArgument);
  run_.cancel.Cancel();
  EXPECT_EQ(Evaluate(Inputs(ExactSae()), {}, run_).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace featurescope
