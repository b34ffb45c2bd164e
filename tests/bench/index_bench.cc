// What indexing costs beside its forward passes and its encoder.
//
//   pass_ratio   time of the pass over the corpus / time of bare forward plus encode, same batches
//   whole_ratio  the same with what follows the pass: logit effects and the file; this part does
//   not
//                grow with the corpus, so it weighs more here than over a real one
//
// Both run in turn in one process, three times each; medians.
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/index/batch_plan.h"
#include "server/index/run_indexing.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"
#include "server/tensor/weights.h"

namespace featurescope {
namespace {

constexpr int kRounds = 3;
constexpr int64_t kWide = 768;  // d_model of the random model

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << "\n";
    std::exit(1);
  }
  return *std::move(value);
}

void OrDie(const absl::Status& status) {
  if (!status.ok()) {
    std::cerr << status << "\n";
    std::exit(1);
  }
}

class ScratchDir {
 public:
  ScratchDir() : path_(std::filesystem::temp_directory_path() / "featurescope_index_bench") {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

std::shared_ptr<const Transformer> DemoModel() {
  return OrDie(Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo", {}));
}

// Two blocks of GPT-2 small's width with random weights.
std::shared_ptr<const Transformer> WideModel(const ScratchDir& dir) {
  constexpr int64_t kVocab = 8192;
  torch::manual_seed(1);
  const std::string path = dir / "wide";
  std::filesystem::create_directories(path);
  std::ofstream(path + "/config.json")
      << R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2,)"
      << R"( "n_embd": 768, "n_head": 12, "n_ctx": 256, "n_positions": 256, "vocab_size": 8192,)"
      << R"( "bos_token_id": 0, "eos_token_id": 0, "activation_function": "gelu_new",)"
      << R"( "layer_norm_epsilon": 1e-5})";
  auto random = [](std::vector<int64_t> sizes) { return torch::randn(sizes) * 0.02; };
  std::vector<std::pair<std::string, torch::Tensor>> tensors = {
      {"wte.weight", random({kVocab, kWide})},
      {"wpe.weight", random({256, kWide})},
      {"ln_f.weight", torch::ones({kWide})},
      {"ln_f.bias", torch::zeros({kWide})}};
  for (const std::string& block : {std::string("h.0."), std::string("h.1.")}) {
    for (const char* norm : {"ln_1", "ln_2"}) {
      tensors.emplace_back(block + norm + ".weight", torch::ones({kWide}));
      tensors.emplace_back(block + norm + ".bias", torch::zeros({kWide}));
    }
    const std::vector<std::pair<std::string, std::pair<int64_t, int64_t>>> linears = {
        {"attn.c_attn", {kWide, 3 * kWide}},
        {"attn.c_proj", {kWide, kWide}},
        {"mlp.c_fc", {kWide, 4 * kWide}},
        {"mlp.c_proj", {4 * kWide, kWide}}};
    for (const auto& [name, size] : linears) {
      tensors.emplace_back(block + name + ".weight", random({size.first, size.second}));
      tensors.emplace_back(block + name + ".bias", torch::zeros({size.second}));
    }
  }
  OrDie(SaveTensors(path + "/model.safetensors", tensors));
  return OrDie(Transformer::Load(path, {}));
}

// Random ids, in contexts of 128.
std::shared_ptr<const TokenFile> RandomCorpus(const ScratchDir& dir, uint32_t vocab,
                                              uint32_t n_tokens) {
  TokenFileSpec spec;
  spec.vocab_size = vocab;
  spec.context_size = 128;
  spec.prepend_bos = true;
  const std::string path = dir / "corpus";
  std::filesystem::remove_all(path);
  TokenFileWriter writer = OrDie(TokenFileWriter::Create(path, spec));
  std::mt19937 random(3);
  std::vector<uint32_t> ids(n_tokens);
  for (uint32_t& id : ids) id = 1 + static_cast<uint32_t>(random() % (vocab - 1));
  OrDie(writer.AppendDocument(ids));
  OrDie(writer.Finish());
  return OrDie(TokenFile::Open(path));
}

SequenceBatch Contexts(const TokenFile& corpus, uint64_t first, uint64_t n) {
  SequenceBatch batch;
  std::vector<uint32_t> ids;
  for (uint64_t c = first; c < std::min(first + n, corpus.n_contexts()); ++c) {
    OrDie(corpus.Context(c, &ids));
    batch.Append(ids);
  }
  return batch;
}

torch::Tensor ActivationsAt(const IndexInputs& in, const SequenceBatch& batch) {
  torch::Tensor x;
  HookSet hooks;
  hooks.Add(in.hook, [&x](const HookContext&, torch::Tensor& value) { x = value; });
  ForwardOptions options;
  options.hooks = &hooks;
  OrDie(in.model->Forward(batch, options).status());
  return x;
}

// A random SAE; a standard one gets a bias at which a feature fires on 0.25 % of the tokens.
std::shared_ptr<const Sae> RandomSae(const IndexInputs& in, const std::string& architecture,
                                     int64_t d_sae) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(2);
  const torch::Tensor x = ActivationsAt(in, Contexts(*in.corpus, 0, 4));
  SaeConfig config;
  config.architecture = architecture;
  config.d_in = x.size(1);
  config.d_sae = d_sae;
  SaeParameters p;
  p.b_dec = x.mean(0);
  p.W_enc = torch::randn({config.d_in, d_sae});
  p.W_dec = torch::randn({d_sae, config.d_in}) / std::sqrt(static_cast<double>(config.d_in));
  p.b_enc = torch::zeros({d_sae});
  if (architecture == "topk") {
    config.k = 32;
  } else {
    p.b_enc = -2.8 * (x - p.b_dec).mm(p.W_enc).std(0);
  }
  return OrDie(Sae::Create(config, p));
}

// Forward to the hook and encode, and nothing else.
double BareSeconds(const IndexInputs& in, const BatchPlan& plan, DeviceWorker& device) {
  const absl::Time start = absl::Now();
  for (uint64_t c = 0; c < in.corpus->n_contexts(); c += plan.contexts_per_batch) {
    const SequenceBatch batch = Contexts(*in.corpus, c, plan.contexts_per_batch);
    OrDie(device.RunBackground({}, [&] {
      return TorchGate("bare pass", [&] {
        benchmark::DoNotOptimize(OrDie(in.sae->Encode(ActivationsAt(in, batch))).acts);
      });
    }));
  }
  return absl::ToDoubleSeconds(absl::Now() - start);
}

struct IndexSeconds {
  double pass = 0;
  double whole = 0;
  double accumulating = 0;  // processor time of the accumulating thread during the pass
};

// Processor time of the calling thread.
double ThreadSeconds() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

IndexSeconds Index(const IndexInputs& in, DeviceWorker& device, const ScratchDir& dir) {
  IndexSeconds seconds;
  RunContext run;
  run.device = &device;
  run.work_dir = dir / "work";
  const absl::Time start = absl::Now();
  const double thread_start = ThreadSeconds();
  run.on_progress = [&](const RunProgress& progress) {
    if (seconds.pass == 0 && progress.phase != "indexing") {
      seconds.pass = absl::ToDoubleSeconds(absl::Now() - start);
      seconds.accumulating = ThreadSeconds() - thread_start;
    }
  };
  OrDie(RunIndexing(in, {}, run, dir / "index.db"));
  seconds.whole = absl::ToDoubleSeconds(absl::Now() - start);
  return seconds;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Compare(benchmark::State& state, const ScratchDir& dir,
             std::shared_ptr<const Transformer> model, const std::string& hook,
             const std::string& architecture, int64_t d_sae, uint32_t n_tokens) {
  IndexInputs in;
  in.sae_id = architecture;
  in.corpus_id = "random";
  in.model_id = "bench";
  in.hook = OrDie(HookPoint::Parse(hook));
  in.corpus = RandomCorpus(dir, static_cast<uint32_t>(model->config().d_vocab), n_tokens);
  in.model = std::move(model);
  in.sae = RandomSae(in, architecture, d_sae);
  DeviceWorker device{DeviceWorkerOptions()};
  const BatchPlan plan = PlanBatches(in.model->config(), in.hook, in.sae->config(), 128,
                                     /*on_gpu=*/false, RunContext().quantum);
  std::vector<double> bare, pass, whole, accumulating;
  for (auto _ : state) {
    for (int round = 0; round < kRounds; ++round) {
      bare.push_back(BareSeconds(in, plan, device));
      const IndexSeconds seconds = Index(in, device, dir);
      pass.push_back(seconds.pass);
      whole.push_back(seconds.whole);
      accumulating.push_back(seconds.accumulating);
    }
  }
  state.counters["bare_s"] = Median(bare);
  state.counters["pass_ratio"] = Median(pass) / Median(bare);
  state.counters["whole_ratio"] = Median(whole) / Median(bare);
  state.counters["accumulating_cpu_s"] = Median(accumulating);
  state.counters["tokens_per_s"] = static_cast<double>(in.corpus->n_tokens()) / Median(pass);
  const auto quanta = static_cast<double>((in.corpus->n_contexts() + plan.contexts_per_batch - 1) /
                                          plan.contexts_per_batch);
  state.counters["quantum_ms"] = 1000 * Median(bare) / quanta;
}

void BM_IndexDemo(benchmark::State& state, const char* architecture) {
  const ScratchDir dir;
  Compare(state, dir, DemoModel(), "blocks.3.hook_resid_post", architecture, state.range(0),
          1 << 16);
}
BENCHMARK_CAPTURE(BM_IndexDemo, topk, "topk")->Arg(4096)->Arg(8192)->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(BM_IndexDemo, standard, "standard")->Arg(8192)->Iterations(1)->UseRealTime();

void BM_IndexWide(benchmark::State& state, const char* architecture) {
  const ScratchDir dir;
  Compare(state, dir, WideModel(dir), "blocks.1.hook_resid_post", architecture, 24576, 1 << 14);
}
BENCHMARK_CAPTURE(BM_IndexWide, topk, "topk")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(BM_IndexWide, standard, "standard")->Iterations(1)->UseRealTime();

}  // namespace
}  // namespace featurescope

BENCHMARK_MAIN();
