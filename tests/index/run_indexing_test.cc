#include "server/index/run_indexing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "server/store/index_db.h"
#include "tests/index/naive.h"
#include "tests/index/support.h"

namespace featurescope {
namespace {

using testing::HasSubstr;

// Small enough for many batches of the tiny model, each of a few contexts.
constexpr absl::Duration kShortQuantum = absl::Microseconds(150);

class RunIndexingTest : public IndexingTest {
 protected:
  RunIndexingTest() { run_.quantum = kShortQuantum; }

  std::shared_ptr<const IndexReader> Index(const IndexInputs& inputs, const IndexSpec& spec,
                                           const std::string& name = "index.db") {
    const absl::Status status = RunIndexing(inputs, spec, run_, dir_ / name);
    EXPECT_TRUE(status.ok()) << status;
    auto index = IndexReader::Open(dir_ / name);
    EXPECT_TRUE(index.ok()) << index.status();
    return index.ok() ? *index : nullptr;
  }
};

class IndexAgreesWithNaiveTest : public RunIndexingTest,
                                 public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Architectures, IndexAgreesWithNaiveTest,
                         testing::Values("standard", "topk"));

TEST_P(IndexAgreesWithNaiveTest, Statistics) {
  const IndexInputs inputs = MakeInputs(GetParam());
  const auto index = Index(inputs, IndexSpec());
  ASSERT_NE(index, nullptr);
  const NaiveActivations naive = ComputeNaively(inputs, kShortQuantum, inputs.corpus->n_contexts());
  uint32_t alive = 0, dense = 0;
  double activations = 0;
  for (uint32_t f = 0; f < 96; ++f) {
    const FeatureRow row = *index->GetFeature(f);
    std::vector<double> values = naive.Positive(f);
    const auto n = static_cast<double>(values.size());
    activations += n;
    EXPECT_EQ(row.n_active, values.size());
    EXPECT_NEAR(row.density, n / static_cast<double>(naive.n_counted()), 1e-12);
    EXPECT_NEAR(row.decoder_norm, inputs.sae->parameters().W_dec[f].norm().item<double>(), 1e-5);
    if (values.empty()) {
      EXPECT_EQ(row.max, 0);
      EXPECT_FALSE(row.top_token.has_value());
      continue;
    }
    ++alive;
    dense += row.density > 0.1;
    std::sort(values.begin(), values.end());
    double mean = 0, m2 = 0, m3 = 0, m4 = 0;
    for (double v : values) mean += v / n;
    for (double v : values) {
      const double d = v - mean;
      m2 += d * d / n;
      m3 += d * d * d / n;
      m4 += d * d * d * d / n;
    }
    EXPECT_EQ(row.max, values.back());
    EXPECT_NEAR(row.mean, mean, 1e-9);
    EXPECT_NEAR(row.std, std::sqrt(m2), 1e-8);
    if (values.size() > 1) {
      EXPECT_NEAR(row.skewness, m3 / std::pow(m2, 1.5), 1e-6);
      EXPECT_NEAR(row.kurtosis, m4 / (m2 * m2) - 3, 1e-5);
    }
    if (values.size() > 200) {
      EXPECT_NEAR(row.p50, values[values.size() / 2], 0.06 * values[values.size() / 2]);
    }
    const HistogramRow histogram = index->GetFeatureDetail(f)->histogram;
    ASSERT_EQ(histogram.edges.size(), histogram.counts.size() + 1);
    for (size_t b = 0; b < histogram.counts.size(); ++b) {
      const auto count = std::count_if(values.begin(), values.end(), [&](double v) {
        return v >= histogram.edges[b] && v < histogram.edges[b + 1];
      });
      EXPECT_EQ(histogram.counts[b], static_cast<uint64_t>(count));
    }
  }
  const IndexInfoRow& info = index->info();
  EXPECT_EQ(info.n_alive, alive);
  EXPECT_EQ(info.n_dead, 96 - alive);
  EXPECT_EQ(info.n_dense, dense);
  EXPECT_GT(alive, 0u);
  EXPECT_EQ(info.n_tokens, inputs.corpus->n_tokens());
  EXPECT_EQ(info.n_contexts, inputs.corpus->n_contexts());
  EXPECT_NEAR(info.mean_l0, activations / static_cast<double>(naive.n_counted()), 1e-12);
  if (std::string(GetParam()) == "standard") {
    EXPECT_EQ(index->GetFeature(95)->n_active, 0u);
    EXPECT_GT(index->GetFeature(0)->density, 0.9);
  }
  uint64_t in_density_histogram = 0;
  for (uint64_t count : info.log10_density.counts) in_density_histogram += count;
  EXPECT_EQ(in_density_histogram, alive);
  EXPECT_TRUE(index->Verify().ok());
}

TEST_P(IndexAgreesWithNaiveTest, ExplainedVariance) {
  const IndexInputs inputs = MakeInputs(GetParam());
  const auto index = Index(inputs, IndexSpec());
  ASSERT_NE(index, nullptr);
  const NaiveActivations naive = ComputeNaively(inputs, kShortQuantum, inputs.corpus->n_contexts());
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < naive.n_tokens(); ++row) {
    if (!naive.special[row]) rows.push_back(row);
  }
  const torch::Tensor keep = torch::tensor(rows);
  const torch::Tensor x = naive.x.index_select(0, keep).to(torch::kFloat64);
  const torch::Tensor residual = x - naive.x_hat.index_select(0, keep);
  const torch::Tensor centred = x - x.mean(0, true);
  const double expected =
      1 - residual.square().sum().item<double>() / centred.square().sum().item<double>();
  EXPECT_NEAR(index->info().explained_variance, expected, 1e-9);
}

TEST_P(IndexAgreesWithNaiveTest, TopExamplesAndTheirWindows) {
  const IndexInputs inputs = MakeInputs(GetParam());
  IndexSpec spec;
  spec.top_examples = 6;
  spec.window = 4;
  const auto index = Index(inputs, spec);
  ASSERT_NE(index, nullptr);
  const NaiveActivations naive = ComputeNaively(inputs, kShortQuantum, inputs.corpus->n_contexts());
  for (uint32_t f = 0; f < 96; ++f) {
    std::map<int64_t, std::pair<float, int64_t>> best;  // by context: activation, row
    for (int64_t row = 0; row < naive.n_tokens(); ++row) {
      const float act = naive.special[row] ? 0 : naive.At(row, f);
      auto& strongest = best[row / naive.context_size];
      if (act > strongest.first) strongest = {act, row};
    }
    std::vector<std::pair<float, int64_t>> expected;
    for (const auto& [context, strongest] : best) {
      if (strongest.first > 0) expected.push_back(strongest);
    }
    std::stable_sort(expected.begin(), expected.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    if (expected.size() > 6) expected.resize(6);
    const std::vector<ExampleRow> examples = *index->ListExamples(f, 0, 0, 100);
    ASSERT_EQ(examples.size(), expected.size());
    for (size_t i = 0; i < examples.size(); ++i) {
      const ExampleRow& example = examples[i];
      const int64_t row = expected[i].second;
      const int64_t context_begin = row / naive.context_size * naive.context_size;
      const int64_t context_end = std::min(context_begin + naive.context_size, naive.n_tokens());
      EXPECT_EQ(example.rank, i);
      EXPECT_EQ(example.activation, expected[i].first);
      ASSERT_EQ(static_cast<int64_t>(example.context * naive.context_size + example.position), row);
      const int64_t begin = std::max(context_begin, row - 4);
      const int64_t end = std::min(context_end, row + 5);
      EXPECT_EQ(static_cast<int64_t>(example.window_start), begin - context_begin);
      ASSERT_EQ(static_cast<int64_t>(example.tokens.size()), end - begin);
      for (int64_t at = begin; at < end; ++at) {
        EXPECT_EQ(example.tokens[at - begin], naive.tokens[at]);
        EXPECT_EQ(example.acts[at - begin], naive.special[at] ? 0 : naive.At(at, f));
      }
    }
    if (!examples.empty()) {
      EXPECT_EQ(index->GetFeature(f)->top_token, naive.tokens[expected[0].second]);
    }
  }
}

TEST_P(IndexAgreesWithNaiveTest, BandsAndTheirExamples) {
  const IndexInputs inputs = MakeInputs(GetParam(), 24, 150);
  const auto index = Index(inputs, IndexSpec());
  ASSERT_NE(index, nullptr);
  const NaiveActivations naive = ComputeNaively(inputs, kShortQuantum, inputs.corpus->n_contexts());
  for (uint32_t f = 0; f < 96; ++f) {
    const std::vector<double> values = naive.Positive(f);
    const FeatureDetailRow detail = *index->GetFeatureDetail(f);
    ASSERT_EQ(detail.bands.size(), values.empty() ? 0u : 10u);
    std::vector<std::vector<ExampleRow>> by_band(11);
    const std::vector<ExampleRow> samples = *index->ListExamples(f, 1, kMaxIndexBands, 100);
    for (const ExampleRow& example : samples) {
      by_band.at(example.band).push_back(example);
    }
    for (size_t b = 0; b < detail.bands.size(); ++b) {
      const BandRow& band = detail.bands[b];
      const auto exact =
          static_cast<double>(std::count_if(values.begin(), values.end(), [&](double v) {
            return v >= band.low && (b == 0 || v < band.high);
          }));
      if (values.size() >= 500) {
        EXPECT_NEAR(band.share, exact / static_cast<double>(values.size()), 0.05);
      }
      EXPECT_EQ(by_band[b + 1].size() > 0, exact > 0) << "feature " << f << ", band " << b;
      for (const ExampleRow& example : by_band[b + 1]) {
        const auto row =
            static_cast<int64_t>(example.context * naive.context_size + example.position);
        EXPECT_EQ(naive.At(row, f), example.activation);
        EXPECT_FALSE(naive.special[row]);
        EXPECT_GE(example.activation, band.low);
        EXPECT_LE(example.activation, band.high);
      }
    }
  }
}

TEST_F(RunIndexingTest, SpecialTokensCountNowhere) {
  IndexInputs inputs = MakeInputs("standard");
  const auto index = Index(inputs, IndexSpec());
  ASSERT_NE(index, nullptr);
  EXPECT_LT(index->GetFeature(0)->n_active, inputs.corpus->n_tokens());
  for (uint32_t f = 0; f < 96; ++f) {
    const std::vector<ExampleRow> examples = *index->ListExamples(f, 0, kMaxIndexBands, 100);
    for (const ExampleRow& example : examples) {
      EXPECT_NE(example.tokens[example.position - example.window_start], 0u);
      for (size_t i = 0; i < example.tokens.size(); ++i) {
        if (example.tokens[i] == 0) {
          EXPECT_EQ(example.acts[i], 0);
        }
      }
    }
  }
}

// Token i is "<i>"; 7 is special beside the corpus's BOS.
class NumberTokenizer : public Tokenizer {
 public:
  std::string Decode(absl::Span<const uint32_t>) const override { return ""; }
  std::string TokenBytes(uint32_t id) const override { return "<" + std::to_string(id) + ">"; }
  uint32_t vocab_size() const override { return kVocab; }
  bool IsSpecial(uint32_t id) const override { return id == 7; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view, bool) const override {
    return std::vector<uint32_t>();
  }
};

TEST_F(RunIndexingTest, TheTokenizersTextsAndSpecialTokensAreInTheFile) {
  IndexInputs inputs = MakeInputs("standard");
  const auto without = Index(inputs, IndexSpec(), "without.db");
  inputs.tokenizer = std::make_shared<NumberTokenizer>();
  const auto index = Index(inputs, IndexSpec());
  ASSERT_TRUE(without != nullptr && index != nullptr);
  EXPECT_EQ(index->Token(130).bytes, "<130>");
  EXPECT_FALSE(index->Token(130).special);
  EXPECT_TRUE(index->Token(7).special);
  EXPECT_TRUE(index->Token(0).special);
  EXPECT_EQ(without->Token(130).bytes, "");
  EXPECT_LT(index->GetFeature(0)->n_active, without->GetFeature(0)->n_active);
  const std::vector<ExampleRow> examples = *index->ListExamples(0, 0, kMaxIndexBands, 100);
  for (const ExampleRow& example : examples) {
    EXPECT_NE(example.tokens[example.position - example.window_start], 7u);
  }
}

TEST_F(RunIndexingTest, MaxTokensTakesWholeContextsFromTheBeginning) {
  const IndexInputs inputs = MakeInputs("topk");
  IndexSpec spec;
  spec.max_tokens = 24 * 7 + 5;
  const auto index = Index(inputs, spec);
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index->info().n_tokens, 24u * 7);
  EXPECT_EQ(index->info().n_contexts, 7u);
  spec.max_tokens = 1 << 30;
  EXPECT_EQ(Index(inputs, spec, "all.db")->info().n_tokens, inputs.corpus->n_tokens());
}

TEST_F(RunIndexingTest, ContextsLongerThanAQuantumGiveTheSameNumbersPieceByPiece) {
  const IndexInputs inputs = MakeInputs("standard", 64, 30);
  run_.quantum = absl::Seconds(1);
  const auto whole = Index(inputs, IndexSpec(), "whole.db");
  run_.quantum = absl::Microseconds(1);
  const BatchPlan plan = PlanBatches(inputs.model->config(), inputs.hook, inputs.sae->config(), 64,
                                     false, run_.quantum);
  ASSERT_LE(2 * plan.tokens_per_quantum, 64);
  const uint64_t quanta = device_.stats().background_quanta;
  const auto pieces = Index(inputs, IndexSpec(), "pieces.db");
  EXPECT_GE(device_.stats().background_quanta - quanta, 3 * inputs.corpus->n_contexts());
  ASSERT_TRUE(whole != nullptr && pieces != nullptr);
  for (uint32_t f = 0; f < 96; ++f) {
    const FeatureRow a = *whole->GetFeature(f);
    const FeatureRow b = *pieces->GetFeature(f);
    EXPECT_NEAR(static_cast<double>(a.n_active), static_cast<double>(b.n_active), 1);
    EXPECT_NEAR(a.mean, b.mean, 1e-3);
    EXPECT_NEAR(a.max, b.max, 1e-4);
  }
}

TEST_F(RunIndexingTest, TwoRunsGiveTheSameFile) {
  const IndexInputs inputs = MakeInputs("topk");
  const auto first = Index(inputs, IndexSpec(), "first.db");
  const auto second = Index(inputs, IndexSpec(), "second.db");
  ASSERT_TRUE(first != nullptr && second != nullptr);
  EXPECT_EQ(first->info().content_hash, second->info().content_hash);
}

TEST_F(RunIndexingTest, ARunCancelledAnywhereResumesToTheSameFile) {
  const IndexInputs inputs = MakeInputs("standard", 24, 120);
  const auto expected = Index(inputs, IndexSpec(), "uninterrupted.db");
  ASSERT_NE(expected, nullptr);
  const RunContext original = run_;
  std::mt19937 random(1);
  for (int round = 0; round < 6; ++round) {
    const std::string name = "resumed" + std::to_string(round) + ".db";
    run_.work_dir = dir_ / ("work" + std::to_string(round));
    absl::Status status;
    int cancelled = 0;
    do {
      run_.cancel = CancelToken();
      // After a number of quanta, from another thread, as a person's cancel comes.
      const uint64_t stop_at = device_.stats().background_quanta + 1 + random() % 30;
      std::atomic<bool> done = false;
      std::thread canceller([&] {
        while (!done && device_.stats().background_quanta < stop_at) std::this_thread::yield();
        run_.cancel.Cancel();
      });
      status = RunIndexing(inputs, IndexSpec(), run_, dir_ / name);
      done = true;
      canceller.join();
      if (!status.ok()) {
        ++cancelled;
        EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
        EXPECT_FALSE(std::filesystem::exists(dir_ / name));
      }
    } while (!status.ok() && cancelled < 200);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_GT(cancelled, 0);
    auto index = IndexReader::Open(dir_ / name);
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ((*index)->info().content_hash, expected->info().content_hash);
    EXPECT_EQ((*index)->info().mean_l0, expected->info().mean_l0);
    EXPECT_EQ((*index)->info().explained_variance, expected->info().explained_variance);
    EXPECT_EQ((*index)->info().n_tokens, expected->info().n_tokens);
    EXPECT_FALSE(std::filesystem::exists(run_.work_dir + "/indexing.checkpoint"));
  }
}

// As after a kill: the checkpoint is older than what was done.
TEST_F(RunIndexingTest, ARunResumedFromAnyPeriodicCheckpointGivesTheSameFile) {
  const IndexInputs inputs = MakeInputs("standard", 24, 40);
  IndexSpec spec;
  spec.checkpoint_interval = absl::ZeroDuration();
  std::vector<std::string> checkpoints;
  const std::string checkpoint = run_.work_dir + "/indexing.checkpoint";
  std::atomic<bool> done = false;
  std::thread copier([&] {
    while (!done) {
      std::ifstream in(checkpoint, std::ios::binary);
      std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      if (!bytes.empty() && (checkpoints.empty() || bytes != checkpoints.back())) {
        checkpoints.push_back(std::move(bytes));
      }
    }
  });
  const auto expected = Index(inputs, spec, "uninterrupted.db");
  done = true;
  copier.join();
  ASSERT_NE(expected, nullptr);
  ASSERT_FALSE(checkpoints.empty());
  // A few of them: every run takes its time.
  while (checkpoints.size() > 8) checkpoints.erase(checkpoints.begin() + checkpoints.size() / 2);
  for (const std::string& bytes : checkpoints) {
    std::ofstream(checkpoint, std::ios::binary) << bytes;
    const auto index = Index(inputs, spec, "resumed.db");
    ASSERT_NE(index, nullptr);
    EXPECT_EQ(index->info().content_hash, expected->info().content_hash);
  }
}

TEST_F(RunIndexingTest, ADamagedOrForeignCheckpointStartsOver) {
  const IndexInputs inputs = MakeInputs("topk");
  const auto expected = Index(inputs, IndexSpec(), "expected.db");
  ASSERT_NE(expected, nullptr);
  for (const std::string& content :
       {std::string(), std::string("nonsense"), std::string(5000, 'x')}) {
    std::ofstream(run_.work_dir + "/indexing.checkpoint") << content;
    const auto index = Index(inputs, IndexSpec(), "after.db");
    ASSERT_NE(index, nullptr);
    EXPECT_EQ(index->info().content_hash, expected->info().content_hash);
  }
  // Of another specification.
  IndexSpec other;
  other.seed = 99;
  run_.on_progress = [this](const RunProgress&) { run_.cancel.Cancel(); };
  ASSERT_FALSE(RunIndexing(inputs, other, run_, dir_ / "other.db").ok());
  ASSERT_TRUE(std::filesystem::exists(run_.work_dir + "/indexing.checkpoint"));
  run_.on_progress = nullptr;
  run_.cancel = CancelToken();
  const auto index = Index(inputs, IndexSpec(), "after.db");
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index->info().content_hash, expected->info().content_hash);
}

TEST_F(RunIndexingTest, ReportsProgressAndMetrics) {
  const IndexInputs inputs = MakeInputs("topk");
  std::vector<RunProgress> progress;
  std::vector<RunMetrics> metrics;
  run_.on_progress = [&](const RunProgress& p) { progress.push_back(p); };
  run_.on_metrics = [&](const RunMetrics& m) { metrics.push_back(m); };
  ASSERT_NE(Index(inputs, IndexSpec()), nullptr);
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back().fraction, 1);
  EXPECT_EQ(progress.back().tokens_done, inputs.corpus->n_tokens());
  for (size_t i = 1; i < progress.size(); ++i) {
    EXPECT_GE(progress[i].fraction, progress[i - 1].fraction);
  }
  ASSERT_FALSE(metrics.empty());
  EXPECT_GT(metrics[0].values.at("l0"), 0);
}

TEST_F(RunIndexingTest, EverythingRunsOnTheDeviceInQuanta) {
  const IndexInputs inputs = MakeInputs("topk");
  const uint64_t before = device_.stats().background_quanta;
  ASSERT_NE(Index(inputs, IndexSpec()), nullptr);
  EXPECT_GT(device_.stats().background_quanta - before, 5u);
}

TEST_F(RunIndexingTest, HooksOutsideTheResidualStreamHaveNoLogitEffects) {
  IndexInputs inputs = MakeInputs("topk");
  inputs.hook = *HookPoint::Parse("blocks.1.attn.hook_z");
  const auto index = Index(inputs, IndexSpec());
  ASSERT_NE(index, nullptr);
  EXPECT_TRUE(index->GetFeatureDetail(3)->top_logits.empty());
  EXPECT_FALSE(index->GetFeature(3)->top_logit_token.has_value());
  EXPECT_GT(index->info().n_alive, 0u);
}

TEST_F(RunIndexingTest, FieldsOutOfRangeAreNamed) {
  const IndexInputs inputs = MakeInputs("topk");
  const std::vector<std::pair<std::string, std::function<void(IndexSpec&)>>> cases = {
      {"top_examples 0 ", [](IndexSpec& s) { s.top_examples = 0; }},
      {"bands 51 ", [](IndexSpec& s) { s.bands = 51; }},
      {"examples_per_band 101 ", [](IndexSpec& s) { s.examples_per_band = 101; }},
      {"window 1025 ", [](IndexSpec& s) { s.window = 1025; }},
      {"logit_effects 101 ", [](IndexSpec& s) { s.logit_effects = 101; }},
      {"decode_every 0 ", [](IndexSpec& s) { s.decode_every = 0; }},
      {"max_tokens 23 ", [](IndexSpec& s) { s.max_tokens = 23; }},
      {"checkpoint_interval", [](IndexSpec& s) { s.checkpoint_interval = absl::Seconds(-1); }},
  };
  for (const auto& [expected, change] : cases) {
    IndexSpec spec;
    change(spec);
    const absl::Status status = RunIndexing(inputs, spec, run_, dir_ / "index.db");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
  }
}

TEST_F(RunIndexingTest, InputsThatDoNotFitTogetherAreRefused) {
  IndexInputs inputs = MakeInputs("topk");
  inputs.hook = *HookPoint::Parse("blocks.1.mlp.hook_post");
  absl::Status status = RunIndexing(inputs, IndexSpec(), run_, dir_ / "index.db");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("blocks.1.mlp.hook_post"));

  inputs = MakeInputs("topk");
  inputs.hook = *HookPoint::Parse("blocks.7.hook_resid_post");
  status = RunIndexing(inputs, IndexSpec(), run_, dir_ / "index.db");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);

  inputs = MakeInputs("topk", 65);
  status = RunIndexing(inputs, IndexSpec(), run_, dir_ / "index.db");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("contexts of 65 tokens"));
}

TEST_F(RunIndexingTest, AnOutputThatCannotBeWrittenIsFoundBeforeTheWork) {
  const IndexInputs inputs = MakeInputs("topk");
  const uint64_t before = device_.stats().background_quanta;
  const absl::Status status = RunIndexing(inputs, IndexSpec(), run_, dir_ / "missing/index.db");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing/index.db"));
  EXPECT_EQ(device_.stats().background_quanta, before);
}

TEST_F(RunIndexingTest, AFullDiskIsAClearErrorAndLeavesNoFile) {
  // The process's limit on the size of files stands in for the disk.
  const IndexInputs inputs = MakeInputs("topk", 24, 400);
  struct rlimit old_limit;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  struct rlimit limit = old_limit;
  limit.rlim_cur = 64 << 10;
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = RunIndexing(inputs, IndexSpec(), run_, dir_ / "index.db");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("index.db"));
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(HasSubstr("index.db")));
  }
  // With room again, the run is repeated and succeeds.
  EXPECT_NE(Index(inputs, IndexSpec()), nullptr);
}

}  // namespace
}  // namespace featurescope
