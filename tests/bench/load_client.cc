// ComputeActivations over gRPC: many clients at once, one alone, and everything in one batched
// call.
//
//   load_client HOST:PORT SAE [clients seconds tokens]      default 16 clients, 5 s, 64 tokens a
//   text
//
// The server must have the SAE and its model. Clients ask as soon as they are answered. The batched
// call has 64 texts; all sides alternate in one run, and the ratios are of medians over the rounds.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "client/client.h"

namespace featurescope {
namespace {

constexpr int kRounds = 3;
constexpr int kBatch = 64;
constexpr uint32_t kTopK = 10;

struct Load {
  std::string sae;
  uint32_t d_vocab = 0;
  int n_tokens = 0;
};

// Token ids that depend on `seed`, so that no two texts are the same.
void AddInput(const Load& load, uint32_t seed, v1::ComputeActivationsRequest* request) {
  auto* ids = request->add_inputs()->mutable_token_ids();
  for (int i = 0; i < load.n_tokens; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids->add_ids(1 + (seed >> 8) % (load.d_vocab - 1));
  }
}

// Seconds that one call with `n_inputs` texts took.
double Ask(Client& client, const Load& load, uint32_t seed, int n_inputs) {
  v1::ComputeActivationsRequest request;
  request.add_sae_ids(load.sae);
  request.set_top_k_per_token(kTopK);
  for (int i = 0; i < n_inputs; ++i)
    AddInput(load, seed + static_cast<uint32_t>(i) * 7919u, &request);
  v1::ComputeActivationsResponse response;
  const absl::Time start = absl::Now();
  const absl::Status status = client.Call(
      client.explore(), &v1::ExploreService::Stub::ComputeActivations, request, &response);
  if (!status.ok()) {
    fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    exit(EXIT_FAILURE);
  }
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Texts per second of `n_clients` that ask for `seconds`, and the median latency.
std::pair<double, double> Concurrent(const std::string& address, const Load& load, int n_clients,
                                     double seconds) {
  std::vector<std::vector<double>> latencies(static_cast<size_t>(n_clients));
  std::vector<std::thread> threads;
  const absl::Time start = absl::Now();
  for (size_t c = 0; c < latencies.size(); ++c) {
    threads.emplace_back([&, c] {
      Client client(address);
      uint32_t seed = static_cast<uint32_t>(c) * 104729u;
      while (absl::ToDoubleSeconds(absl::Now() - start) < seconds) {
        latencies[c].push_back(Ask(client, load, ++seed, 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double took = absl::ToDoubleSeconds(absl::Now() - start);
  std::vector<double> all;
  for (const auto& own : latencies) all.insert(all.end(), own.begin(), own.end());
  return {static_cast<double>(all.size()) / took, Median(all)};
}

int Run(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: load_client HOST:PORT SAE [clients seconds tokens]\n");
    return 2;
  }
  const std::string address = argv[1];
  const int n_clients = argc > 3 ? atoi(argv[3]) : 16;
  const double seconds = argc > 4 ? atof(argv[4]) : 5;
  Client client(address);
  Load load{argv[2], 0, argc > 5 ? atoi(argv[5]) : 64};
  v1::GetSaeRequest get_sae;
  get_sae.set_sae_id(load.sae);
  v1::Sae sae;
  absl::Status status =
      client.Call(client.catalog(), &v1::CatalogService::Stub::GetSae, get_sae, &sae);
  v1::GetModelRequest get_model;
  get_model.set_model_id(sae.model_id());
  v1::Model model;
  if (status.ok()) {
    status = client.Call(client.catalog(), &v1::CatalogService::Stub::GetModel, get_model, &model);
  }
  if (!status.ok() || n_clients < 1 || load.n_tokens < 1) {
    fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return EXIT_FAILURE;
  }
  load.d_vocab = model.d_vocab();

  Ask(client, load, 1, kBatch);  // loads the model
  std::vector<double> batched, throughput, loaded_latency, alone;
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < 3; ++i) batched.push_back(kBatch / Ask(client, load, 99 + i, kBatch));
    const auto [rate, latency] = Concurrent(address, load, n_clients, seconds);
    throughput.push_back(rate);
    loaded_latency.push_back(latency);
    for (uint32_t i = 0; i < 50; ++i) alone.push_back(Ask(client, load, 5000 + i, 1));
  }
  printf("texts of %d tokens, SAE %s with d_sae %u\n", load.n_tokens, load.sae.c_str(),
         sae.d_sae());
  printf("one batched call   %8.1f texts/s\n", Median(batched));
  printf("%2d clients         %8.1f texts/s, p50 %.1f ms\n", n_clients, Median(throughput),
         1000 * Median(loaded_latency));
  printf("one client alone   p50 %.1f ms\n", 1000 * Median(alone));
  printf("RATIO clients / batched = %.2f\n", Median(throughput) / Median(batched));
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) { return featurescope::Run(argc, argv); }
