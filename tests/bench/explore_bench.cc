// ComputeActivations of many callers and of one, against the bare arithmetic.
//
//   throughput_ratio     time of forward passes and encodings of all tokens, 16 texts at a time,
//   over
//                        the time in which 16 concurrent callers get the same texts' activations
//   latency_over_bare    p50 of one caller's request over one bare forward pass and encoding of its
//                        text; latency_over_forward: over the forward pass alone
//
// Both sides run in turn in one process and compute on the same thread; medians.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/explore/activations.h"
#include "server/tensor/gate.h"
#include "server/tensor/torch.h"

namespace featurescope {
namespace {

constexpr int kClients = 16;
constexpr int kRequestsPerClient = 8;
constexpr int kRounds = 5;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    fprintf(stderr, "%s\n", value.status().ToString().c_str());
    exit(1);
  }
  return *std::move(value);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The demo model, a random TopK SAE and random texts.
struct Setting {
  explicit Setting(int64_t d_sae, int64_t text_tokens) : n_tokens(text_tokens) {
    model.model = OrDie(
        Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/deploy/demo", LoadOptions()));
    torch::NoGradGuard no_grad;
    torch::manual_seed(1);
    SaeConfig config;
    config.architecture = "topk";
    config.d_in = model.model->config().d_model;
    config.d_sae = d_sae;
    config.k = 32;
    SaeParameters p;
    p.W_enc = torch::randn({config.d_in, d_sae}) / std::sqrt(static_cast<double>(config.d_in));
    p.W_dec = p.W_enc.t().contiguous();
    p.b_enc = torch::zeros({d_sae});
    p.b_dec = torch::zeros({config.d_in});
    sae = {"bench", OrDie(Sae::Create(config, std::move(p))),
           OrDie(HookPoint::Parse("blocks.3.hook_resid_post"))};
  }

  std::vector<uint32_t> Ids(int i) const {
    std::vector<uint32_t> ids;
    for (int64_t p = 0; p < n_tokens; ++p) {
      ids.push_back(
          1 + static_cast<uint32_t>((i * 7919 + p * 104729) % (model.model->config().d_vocab - 1)));
    }
    return ids;
  }

  ActivationsRequest Request(int i) const {
    ActivationsRequest request;
    request.model = model;
    request.inputs.resize(1);
    request.inputs[0].input = Ids(i);
    request.saes = {sae};
    return request;
  }

  // Forward to the hook, and encoding if asked for, of texts [first, first + n).
  double BareSeconds(DeviceWorker& worker, int first, int n, bool encode) const {
    SequenceBatch batch;
    for (int i = first; i < first + n; ++i) batch.Append(Ids(i));
    const absl::Time start = absl::Now();
    const absl::Status status = worker.RunInteractive(CancelToken(), [&] {
      return TorchGate("bare pass", [&]() -> absl::Status {
        torch::Tensor x;
        HookSet hooks;
        hooks.Add(sae.hook, [&](const HookContext&, torch::Tensor& value) { x = value; });
        ForwardOptions options;
        options.hooks = &hooks;
        const auto logits = model.model->Forward(batch, options);
        if (!logits.ok() || !encode) return logits.status();
        return sae.sae->Encode(x).status();
      });
    });
    const absl::Time end = absl::Now();
    if (!status.ok()) exit(1);
    return absl::ToDoubleSeconds(end - start);
  }

  double RequestSeconds(DeviceWorker& worker, int i) const {
    const ActivationsRequest request = Request(i);
    const absl::Time start = absl::Now();
    OrDie(ComputeActivations(request, worker));
    return absl::ToDoubleSeconds(absl::Now() - start);
  }

  const int64_t n_tokens;
  ModelRef model;
  SaeRef sae;
};

double ClientsSeconds(const Setting& setting, DeviceWorker& worker) {
  const absl::Time start = absl::Now();
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      for (int r = 0; r < kRequestsPerClient; ++r) {
        OrDie(ComputeActivations(setting.Request(r * kClients + c), worker));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

// Args: d_sae, tokens of each text.
void BM_ConcurrentClients(benchmark::State& state) {
  const Setting setting(state.range(0), state.range(1));
  DeviceWorker worker{DeviceWorkerOptions()};
  ClientsSeconds(setting, worker);
  std::vector<double> bare;
  std::vector<double> clients;
  uint64_t batches = 0;
  for (auto _ : state) {
    for (int round = 0; round < kRounds; ++round) {
      double seconds = 0;
      for (int r = 0; r < kRequestsPerClient; ++r) {
        seconds += setting.BareSeconds(worker, r * kClients, kClients, true);
      }
      bare.push_back(seconds);
      const uint64_t before = worker.stats().interactive_batches;
      clients.push_back(ClientsSeconds(setting, worker));
      batches += worker.stats().interactive_batches - before;
    }
  }
  const double n_requests = kClients * kRequestsPerClient;
  state.counters["throughput_ratio"] = Median(bare) / Median(clients);
  state.counters["tokens_per_s"] =
      n_requests * static_cast<double>(setting.n_tokens) / Median(clients);
  state.counters["requests_per_batch"] =
      n_requests * static_cast<double>(clients.size()) / static_cast<double>(batches);
}

// Args: d_sae, tokens of the text.
void BM_OneClient(benchmark::State& state) {
  const Setting setting(state.range(0), state.range(1));
  DeviceWorker worker{DeviceWorkerOptions()};
  for (int i = 0; i < 5; ++i) setting.RequestSeconds(worker, i);
  std::vector<double> forward;
  std::vector<double> bare;
  std::vector<double> request;
  for (auto _ : state) {
    for (int i = 0; i < 50; ++i) {
      forward.push_back(setting.BareSeconds(worker, i, 1, false));
      bare.push_back(setting.BareSeconds(worker, i, 1, true));
      request.push_back(setting.RequestSeconds(worker, i));
    }
  }
  state.counters["p50_ms"] = 1e3 * Median(request);
  state.counters["latency_over_bare"] = Median(request) / Median(bare);
  state.counters["latency_over_forward"] = Median(request) / Median(forward);
}

BENCHMARK(BM_ConcurrentClients)
    ->Args({4096, 64})
    ->Args({24576, 64})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_OneClient)
    ->Args({4096, 64})
    ->Args({24576, 64})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace featurescope

BENCHMARK_MAIN();
