// The TopK training step against the same step written densely, and against its encoder product.
//
//   train_bench [d_in d_sae k batch rounds]      default 768 24576 32 4096 5
//
// All three run in turn in one process, and the ratios are of medians over the rounds. The dense
// step is what a user of LibTorch writes: autograd over matrix products and topk, gradient
// clipping, torch::optim::Adam, renormalised decoder rows.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/tensor/blas.h"
#include "server/tensor/torch.h"
#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

struct Sizes {
  int64_t d_in = 768;
  int64_t d_sae = 24576;
  int64_t k = 32;
  int64_t batch = 4096;
  int rounds = 5;
};

double Seconds(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  work();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class DenseStep {
 public:
  DenseStep(const TrainState& state, int64_t k)
      : k_(k),
        W_enc_(state.W_enc.value.t().contiguous().requires_grad_()),
        b_enc_(state.b_enc.value.clone().requires_grad_()),
        W_dec_(state.W_dec.value.clone().requires_grad_()),
        b_dec_(state.b_dec.value.clone().requires_grad_()),
        adam_(Parameters(), torch::optim::AdamOptions(2e-4)) {}

  void Run(const torch::Tensor& x) {
    adam_.zero_grad();
    const torch::Tensor pre = torch::relu(torch::addmm(b_enc_, x - b_dec_, W_enc_));
    const auto [values, indices] = pre.topk(k_, 1, true, false);
    const torch::Tensor acts = torch::zeros_like(pre).scatter(1, indices, values);
    const torch::Tensor x_hat = torch::addmm(b_dec_, acts, W_dec_);
    (x - x_hat).pow(2).sum(1).mean().backward();
    torch::NoGradGuard no_grad;
    const torch::Tensor direction = W_dec_ / W_dec_.norm(2, {1}, true);
    W_dec_.mutable_grad().sub_((W_dec_.grad() * direction).sum(1, true) * direction);
    torch::nn::utils::clip_grad_norm_(Parameters(), 1.0);
    adam_.step();
    W_dec_.div_(W_dec_.norm(2, {1}, true));
  }

 private:
  std::vector<torch::Tensor> Parameters() const { return {W_enc_, b_enc_, W_dec_, b_dec_}; }

  int64_t k_;
  torch::Tensor W_enc_, b_enc_, W_dec_, b_dec_;
  torch::optim::Adam adam_;
};

void Run(const Sizes& sizes) {
  TrainingSpec spec;
  spec.d_sae = sizes.d_sae;
  spec.k = sizes.k;
  spec.batch_size = sizes.batch;
  spec.clip_norm = 1;
  spec.auxk_coefficient = 1.0 / 32;
  spec.k_aux = std::min<int64_t>(sizes.d_in / 2, 512);
  spec.dead_after_tokens = 10'000'000;
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({sizes.batch, sizes.d_in});
  DenseStep dense(InitialState(spec, sizes.d_in, torch::kCPU), sizes.k);
  SaeTrainer trainer(spec, InitialState(spec, sizes.d_in, torch::kCPU));
  torch::Tensor pre = torch::empty({sizes.batch, sizes.d_sae});
  const torch::Tensor W_enc = trainer.state().W_enc.value.t().contiguous();

  std::vector<double> dense_seconds;
  std::vector<double> sparse_seconds;
  std::vector<double> product_seconds;
  for (int round = -1; round < sizes.rounds; ++round) {
    const double product = Seconds([&] {
      torch::NoGradGuard no_grad;
      at::mm_out(pre, x, W_enc);
    });
    const double sparse = Seconds([&] {
      trainer.input().copy_(x);
      trainer.BeginStep(2e-4, 0);
      while (!trainer.RunFor(absl::Milliseconds(200))) {
      }
    });
    const double textbook = Seconds([&] { dense.Run(x); });
    std::printf("%s encoder product %.3f s, sparse step %.3f s, dense step %.3f s\n",
                round < 0 ? "warm-up:" : "round:  ", product, sparse, textbook);
    std::fflush(stdout);
    if (round < 0) continue;  // fresh pages, first threads
    product_seconds.push_back(product);
    sparse_seconds.push_back(sparse);
    dense_seconds.push_back(textbook);
  }
  std::printf("where the sparse step's time goes (mean per step, first one included):\n");
  for (const Phase& phase : trainer.sparse_phases()) {
    std::printf("  %-32s %8.1f ms\n", phase.name.c_str(),
                absl::ToDoubleMilliseconds(phase.spent) / (sizes.rounds + 1));
  }
  const double sparse = Median(sparse_seconds);
  const BlasLibrary blas = DescribeBlas();
  std::printf("%s, kernels for %s\n", blas.name.c_str(), blas.kernels.c_str());
  std::printf("TopK step, d_in %ld, d_sae %ld, k %ld, batch %ld, %d threads\n",
              static_cast<long>(sizes.d_in), static_cast<long>(sizes.d_sae),
              static_cast<long>(sizes.k), static_cast<long>(sizes.batch), at::get_num_threads());
  std::printf("sparse step %.3f s (%.0f tokens/s), loss %.3f\n", sparse,
              static_cast<double>(sizes.batch) / sparse, trainer.result().loss);
  std::printf("RATIO dense_step / sparse_step = %.2f\n", Median(dense_seconds) / sparse);
  std::printf("RATIO sparse_step / encoder_product = %.2f\n", sparse / Median(product_seconds));
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  featurescope::Sizes sizes;
  if (argc == 6) {
    sizes.d_in = std::atol(argv[1]);
    sizes.d_sae = std::atol(argv[2]);
    sizes.k = std::atol(argv[3]);
    sizes.batch = std::atol(argv[4]);
    sizes.rounds = std::atoi(argv[5]);
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: train_bench [d_in d_sae k batch rounds]\n");
    return 2;
  }
  featurescope::CorrectBlasKernels();
  at::set_num_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  featurescope::Run(sizes);
  return 0;
}
