// The forward pass of the demo model against its bare matrix products.
//
// `of_gemms` is the time of the bare products of the same sizes over the time of the pass: 1 would
// be a pass that costs nothing but its products. Both run in turn in one process. The end of the
// output says how far bfloat16 moves the activations of the demo model.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/model/dtype_report.h"
#include "server/model/transformer.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

std::shared_ptr<const Transformer> Model(torch::ScalarType dtype) {
  LoadOptions options;
  options.dtype = dtype;
  auto model = Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo", options);
  return model.ok() ? *model : nullptr;
}

SequenceBatch Batch(int64_t n_sequences, int64_t length, int64_t d_vocab) {
  SequenceBatch batch;
  for (int64_t i = 0; i < n_sequences; ++i) {
    std::vector<uint32_t> ids;
    for (int64_t j = 0; j < length; ++j) {
      ids.push_back(static_cast<uint32_t>((i * 7919 + j * 104729) % d_vocab));
    }
    batch.Append(ids);
  }
  return batch;
}

// The four products of each block, into buffers that are reused, on fresh weights.
class BareProducts {
 public:
  BareProducts(const ModelConfig& config, int64_t n_tokens, torch::ScalarType dtype) {
    const int64_t d = config.d_model;
    const int64_t q = config.n_heads * config.d_head;
    const int64_t kv = config.n_kv_heads * config.d_head;
    const std::vector<std::pair<int64_t, int64_t>> sizes = {
        {d, q + 2 * kv}, {q, d}, {d, config.d_mlp}, {config.d_mlp, d}};
    for (int layer = 0; layer < config.n_layers; ++layer) {
      for (size_t i = 0; i < sizes.size(); ++i) {
        weights_.push_back(torch::randn({sizes[i].first, sizes[i].second}).to(dtype));
        if (layer == 0) {
          inputs_.push_back(torch::randn({n_tokens, sizes[i].first}).to(dtype));
          outputs_.push_back(torch::zeros({n_tokens, sizes[i].second}).to(dtype));
        }
        flops_ += 2.0 * static_cast<double>(n_tokens * sizes[i].first * sizes[i].second);
      }
    }
  }
  void Run() {
    for (size_t i = 0; i < weights_.size(); ++i) {
      at::mm_out(outputs_[i % 4], inputs_[i % 4], weights_[i]);
    }
  }
  double flops() const { return flops_; }

 private:
  std::vector<torch::Tensor> weights_;
  std::vector<torch::Tensor> inputs_;
  std::vector<torch::Tensor> outputs_;
  double flops_ = 0;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

// Args: sequences, tokens of each. The pass ends with the last block, without unembedding.
void ForwardBench(benchmark::State& state, torch::ScalarType dtype) {
  const auto model = Model(dtype);
  if (model == nullptr) {
    state.SkipWithError("deploy/demo cannot be loaded");
    return;
  }
  torch::NoGradGuard no_grad;
  const SequenceBatch batch = Batch(state.range(0), state.range(1), model->config().d_vocab);
  HookSet hooks;
  hooks.Add(HookPoint{HookKind::kResidPost, model->config().n_layers - 1},
            [](const HookContext&, torch::Tensor& value) { benchmark::DoNotOptimize(value); });
  ForwardOptions options;
  options.hooks = &hooks;
  BareProducts products(model->config(), batch.n_tokens(), dtype);
  std::vector<double> pass_seconds;
  std::vector<double> product_seconds;
  for (auto _ : state) {
    const absl::Time start = absl::Now();
    const auto result = model->Forward(batch, options);
    const absl::Time middle = absl::Now();
    if (!result.ok()) {
      state.SkipWithError(std::string(result.status().message()).c_str());
      return;
    }
    products.Run();
    pass_seconds.push_back(absl::ToDoubleSeconds(middle - start));
    product_seconds.push_back(absl::ToDoubleSeconds(absl::Now() - middle));
    state.SetIterationTime(pass_seconds.back());
  }
  const double pass = Median(pass_seconds);
  const double product = Median(product_seconds);
  state.counters["of_gemms"] = product / pass;
  state.counters["gemm_gflops"] = products.flops() / product / 1e9;
  state.counters["tokens_per_s"] = static_cast<double>(batch.n_tokens()) / pass;
}

void BM_ForwardFloat32(benchmark::State& state) { ForwardBench(state, torch::kFloat32); }
void BM_ForwardBfloat16(benchmark::State& state) { ForwardBench(state, torch::kBFloat16); }
BENCHMARK(BM_ForwardFloat32)
    ->Args({16, 128})
    ->Args({8, 256})
    ->Args({1, 128})
    ->Args({1, 16})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ForwardBfloat16)->Args({16, 128})->UseManualTime()->Unit(benchmark::kMillisecond);

// One more token for each of `sequences` sequences that have 128 already.
void BM_Decode(benchmark::State& state) {
  const auto model = Model(torch::kFloat32);
  if (model == nullptr) {
    state.SkipWithError("deploy/demo cannot be loaded");
    return;
  }
  const int64_t n = state.range(0);
  const std::vector<uint32_t> prompt(128, 5);
  ForwardOptions options;
  options.logits = LogitsOf::kLastToken;
  int64_t left = 0;
  std::vector<std::unique_ptr<KvCache>> caches;
  for (auto _ : state) {
    if (left == 0) {
      state.PauseTiming();
      caches.clear();
      SequenceBatch first;
      for (int64_t i = 0; i < n; ++i) {
        caches.push_back(model->NewCache());
        first.Append(prompt, caches.back().get());
      }
      benchmark::DoNotOptimize(model->Forward(first, options));
      left = 100;
      state.ResumeTiming();
    }
    SequenceBatch batch;
    for (const auto& cache : caches) batch.Append({7}, cache.get());
    benchmark::DoNotOptimize(model->Forward(batch, options));
    --left;
  }
  state.counters["tokens_per_s"] =
      benchmark::Counter(static_cast<double>(n), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_Decode)->Arg(1)->Arg(16)->Unit(benchmark::kMillisecond)->UseRealTime();

// On the demo model's own example prompts.
std::vector<std::vector<uint32_t>> ExamplePrompts() {
  std::ifstream in(std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo/expected.json");
  const auto json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  std::vector<std::vector<uint32_t>> prompts;
  if (!json.is_array()) return prompts;
  for (const auto& prompt : json) {
    if (prompt.contains("ids")) prompts.push_back(prompt["ids"].get<std::vector<uint32_t>>());
  }
  return prompts;
}

bool PrintBfloat16Difference() {
  LoadOptions options;
  options.dtype = torch::kBFloat16;
  const auto report = MeasureDtype(std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo", options,
                                   ExamplePrompts(), /*hooks=*/{}, CancelToken());
  if (!report.ok()) {
    std::fprintf(stderr, "%s\n", std::string(report.status().message()).c_str());
    return false;
  }
  std::printf("\n%s", FormatDtypeReport(*report).c_str());
  return true;
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return featurescope::PrintBfloat16Difference() ? 0 : 1;
}
