// Training steps against the same step written densely, and against their encoder product.
//
//   train_bench [topk] [d_in d_sae k batch rounds]        default 768 24576 32 4096 5
//   train_bench architectures [d_in d_sae k batch rounds]  every architecture's step
//   train_bench auxk [...]                                 TopK while a third of its features is
//   dead train_bench breakeven [...]                            dense and sparse path by density
//
// What is compared runs in turn in one process, and the ratios are of medians over the rounds. The
// dense step is what a user of LibTorch writes: autograd over matrix products and topk, gradient
// clipping, torch::optim::Adam, renormalised decoder rows.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/tensor/bf16_product.h"
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

// Runs each of `works` once to warm up and then `rounds` times in turn; their medians, in seconds.
std::vector<double> Medians(int rounds, const std::vector<std::function<void()>>& works) {
  std::vector<std::vector<double>> seconds(works.size());
  for (int round = -1; round < rounds; ++round) {
    std::printf("%s", round < 0 ? "warm-up:" : "round:  ");
    for (size_t i = 0; i < works.size(); ++i) {
      const double spent = Seconds(works[i]);
      std::printf(" %.3f", spent);
      if (round >= 0) seconds[i].push_back(spent);  // before: fresh pages, first threads
    }
    std::printf(" s\n");
    std::fflush(stdout);
  }
  std::vector<double> medians;
  for (const std::vector<double>& of_one : seconds) medians.push_back(Median(of_one));
  return medians;
}

TrainingSpec SpecOf(const Sizes& sizes, const std::string& architecture, ComputeDtype dtype) {
  TrainingSpec spec;
  spec.architecture = architecture;
  spec.d_sae = sizes.d_sae;
  spec.batch_size = sizes.batch;
  spec.tokens = 1'000'000'000;
  spec.compute_dtype = dtype;
  if (TraitsOf(spec).topk_family()) spec.k = sizes.k;
  return ResolveForWidths(spec, {sizes.d_in, sizes.d_in}, 1).value();
}

class Runner {
 public:
  Runner(const TrainingSpec& spec, TrainState state, const torch::Tensor& x)
      : spec_(spec), x_(x), trainer_(spec, std::move(state)) {}
  Runner(const TrainingSpec& spec, const torch::Tensor& x)
      : Runner(spec, InitialState(spec, x.size(1), torch::kCPU), x) {}

  void Step() {
    trainer_.input().copy_(x_);
    trainer_.BeginStep({1e-5, 1e-5, 1, spec_.k});
    while (!trainer_.RunFor(absl::Milliseconds(200))) {
    }
    ++steps_;
  }
  std::function<void()> AsWork() {
    return [this] { Step(); };
  }
  void PrintPhases(const char* title) const {
    std::printf("where the time of a step goes, %s (mean of all, the first included):\n", title);
    for (const auto* phases : {&trainer_.sparse_phases(), &trainer_.dense_phases()}) {
      for (const Phase& phase : *phases) {
        const double each = absl::ToDoubleMilliseconds(phase.spent) / steps_;
        if (each >= 0.05) std::printf("  %-32s %8.1f ms\n", phase.name.c_str(), each);
      }
    }
  }
  SaeTrainer& trainer() { return trainer_; }

 private:
  TrainingSpec spec_;
  torch::Tensor x_;
  SaeTrainer trainer_;
  int steps_ = 0;
};

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

// The encoder's product alone, in either dtype.
class Products {
 public:
  Products(const Sizes& sizes, const torch::Tensor& x, const torch::Tensor& W_enc)
      : x_(x), W_enc_(W_enc), pre_(torch::empty({sizes.batch, sizes.d_sae})) {}
  void Float32() {
    torch::NoGradGuard no_grad;
    at::mm_out(pre_, x_, W_enc_.t());
  }
  void BFloat16() {
    torch::NoGradGuard no_grad;
    product_.SetWeights(W_enc_);
    constexpr int64_t kRows = 256;
    for (int64_t i = 0; i < x_.size(0); i += kRows) {
      const int64_t end = std::min(i + kRows, x_.size(0));
      torch::Tensor out = pre_.slice(0, 0, end - i);
      product_.Multiply(x_.slice(0, i, end), out);
    }
  }

 private:
  torch::Tensor x_, W_enc_, pre_;
  Bfloat16Product product_;
};

void PrintSetup(const char* what, const Sizes& sizes) {
  const BlasLibrary blas = DescribeBlas();
  std::printf("%s, d_in %ld, d_sae %ld, k %ld, batch %ld, %d threads; %s, kernels for %s\n", what,
              static_cast<long>(sizes.d_in), static_cast<long>(sizes.d_sae),
              static_cast<long>(sizes.k), static_cast<long>(sizes.batch), at::get_num_threads(),
              blas.name.c_str(), blas.kernels.c_str());
}

void RunTopK(const Sizes& sizes, const torch::Tensor& x) {
  PrintSetup("TopK step", sizes);
  const bool bf16 = HasFastBfloat16();
  Runner float32(SpecOf(sizes, "topk", ComputeDtype::kFloat32), x);
  std::unique_ptr<Runner> bfloat16;
  if (bf16) {
    bfloat16 = std::make_unique<Runner>(SpecOf(sizes, "topk", ComputeDtype::kBFloat16), x);
  }
  DenseStep dense(float32.trainer().state(), sizes.k);
  Products products(sizes, x, float32.trainer().state().W_enc.value.clone());
  std::vector<std::function<void()>> works = {[&] { products.Float32(); }, float32.AsWork(),
                                              [&] { dense.Run(x); }};
  std::printf("columns: float32 product, step, dense step%s\n",
              bf16 ? ", bfloat16 product, step" : "");
  if (bf16) {
    works.push_back([&] { products.BFloat16(); });
    works.push_back(bfloat16->AsWork());
  }
  const std::vector<double> s = Medians(sizes.rounds, works);
  float32.PrintPhases("float32");
  if (bf16) bfloat16->PrintPhases("bfloat16");
  const auto tokens = static_cast<double>(sizes.batch);
  const double flops = 2e-9 * tokens * static_cast<double>(sizes.d_in * sizes.d_sae);
  std::printf("product: %.0f GFLOP/s float32", flops / s[0]);
  if (bf16) std::printf(", %.0f GFLOP/s bfloat16", flops / s[3]);
  std::printf("\nstep: %.0f tokens/s float32", tokens / s[1]);
  if (bf16) std::printf(", %.0f tokens/s bfloat16", tokens / s[4]);
  std::printf("\nRATIO dense_step / sparse_step = %.2f\n", s[2] / s[1]);
  std::printf("RATIO sparse_step / encoder_product = %.2f\n", s[1] / s[0]);
  if (!bf16) return;
  std::printf("RATIO dense_step / bf16_sparse_step = %.2f\n", s[2] / s[4]);
  std::printf("RATIO bf16_sparse_step / bf16_encoder_product = %.2f\n", s[4] / s[3]);
}

// A feature fires on about `share` of the tokens: hidden_pre of random rows is normal.
void SetDensity(TrainState* state, const torch::Tensor& x, double share) {
  const double spread = torch::mm(x, state->W_enc.value.slice(0, 0, 256).t()).std().item<double>();
  const torch::Tensor p = torch::tensor(2 * share - 1, torch::kFloat64);
  state->b_enc.value.fill_(spread * std::sqrt(2.0) * torch::erfinv(p).item<double>());
}

void RunArchitectures(const Sizes& sizes, const torch::Tensor& x) {
  PrintSetup("steps", sizes);
  const double share = static_cast<double>(sizes.k) / static_cast<double>(sizes.d_sae);
  std::vector<std::unique_ptr<Runner>> runners;
  std::vector<std::string> names;
  std::vector<std::function<void()>> works;
  for (const ComputeDtype dtype : {ComputeDtype::kFloat32, ComputeDtype::kBFloat16}) {
    if (dtype == ComputeDtype::kBFloat16 && !HasFastBfloat16()) continue;
    for (const char* name :
         {"topk", "batchtopk", "matryoshka_batchtopk", "standard", "jumprelu", "gated"}) {
      TrainingSpec spec = SpecOf(sizes, name, dtype);
      TrainState state = InitialState(spec, sizes.d_in, torch::kCPU);
      if (std::string(name) == "standard" || std::string(name) == "jumprelu") {
        SetDensity(&state, x, share);
        state.density = share;
      } else if (std::string(name) == "gated") {
        std::swap(state.b_enc, state.b_gate);
        SetDensity(&state, x, share);
        std::swap(state.b_enc, state.b_gate);
        state.density = share;
      }
      runners.push_back(std::make_unique<Runner>(spec, std::move(state), x));
      names.push_back(std::string(name) + " " + std::string(EnumName(dtype)));
      works.push_back(runners.back()->AsWork());
    }
  }
  Products products(sizes, x, runners[0]->trainer().state().W_enc.value.clone());
  works.push_back([&] { products.Float32(); });
  works.push_back([&] { products.BFloat16(); });
  const std::vector<double> s = Medians(sizes.rounds, works);
  for (size_t i = 0; i < names.size(); ++i) {
    const bool bf16 = names[i].find("bfloat16") != std::string::npos;
    std::printf("%-32s %.3f s, L0 %.1f, RATIO step / encoder_product = %.2f\n", names[i].c_str(),
                s[i], runners[i]->trainer().result().l0, s[i] / s[names.size() + (bf16 ? 1 : 0)]);
  }
}

void RunAuxK(const Sizes& sizes, const torch::Tensor& x) {
  PrintSetup("TopK step with AuxK", sizes);
  const TrainingSpec spec = SpecOf(sizes, "topk", ComputeDtype::kFloat32);
  std::vector<std::unique_ptr<Runner>> runners;
  std::vector<std::function<void()>> works;
  const double shares[] = {0, 0.01, 0.1, 0.33};
  for (const double share : shares) {
    TrainState state = InitialState(spec, sizes.d_in, torch::kCPU);
    const auto dead = static_cast<int64_t>(share * static_cast<double>(sizes.d_sae));
    // Features that do not fire, and have not for long.
    state.b_enc.value.slice(0, 0, dead)
        .fill_(-2.0 * std::sqrt(static_cast<double>(sizes.d_in)) / 28);
    state.tokens_since_fired.slice(0, 0, dead).fill_(100'000'000);
    runners.push_back(std::make_unique<Runner>(spec, std::move(state), x));
    works.push_back(runners.back()->AsWork());
  }
  const std::vector<double> s = Medians(sizes.rounds, works);
  for (size_t i = 0; i < s.size(); ++i) {
    std::printf("dead %.3f of the features: RATIO step / step without dead features = %.2f\n",
                runners[i]->trainer().result().dead_share, s[i] / s[0]);
  }
  runners.back()->PrintPhases("a third dead");
}

void RunBreakEven(const Sizes& sizes, const torch::Tensor& x) {
  PrintSetup("standard step, dense and sparse path", sizes);
  const TrainingSpec spec = SpecOf(sizes, "standard", ComputeDtype::kFloat32);
  for (const double share : {0.02, 0.04, 0.08, 0.16, 0.32}) {
    TrainState state = InitialState(spec, sizes.d_in, torch::kCPU);
    SetDensity(&state, x, share);
    Runner runner(spec, std::move(state), x);
    const std::vector<double> s = Medians(sizes.rounds, {[&] {
                                                           runner.trainer().ForcePath(true);
                                                           runner.Step();
                                                         },
                                                         [&] {
                                                           runner.trainer().ForcePath(false);
                                                           runner.Step();
                                                         }});
    std::printf("density %.3f: RATIO dense / sparse path = %.2f\n",
                runner.trainer().state().density, s[0] / s[1]);
    runner.PrintPhases("both paths, each in half of the steps");
  }
}

void Run(const std::string& mode, const Sizes& sizes) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({sizes.batch, sizes.d_in});
  if (mode == "architectures") return RunArchitectures(sizes, x);
  if (mode == "auxk") return RunAuxK(sizes, x);
  if (mode == "breakeven") return RunBreakEven(sizes, x);
  RunTopK(sizes, x);
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) {
  featurescope::Sizes sizes;
  std::string mode = "topk";
  if (argc > 1 && !std::isdigit(static_cast<unsigned char>(argv[1][0]))) {
    mode = argv[1];
    --argc;
    ++argv;
  }
  const bool known =
      mode == "topk" || mode == "architectures" || mode == "auxk" || mode == "breakeven";
  if (argc == 6) {
    sizes.d_in = std::atol(argv[1]);
    sizes.d_sae = std::atol(argv[2]);
    sizes.k = std::atol(argv[3]);
    sizes.batch = std::atol(argv[4]);
    sizes.rounds = std::atoi(argv[5]);
  } else if (argc != 1 || !known) {
    std::fprintf(stderr,
                 "usage: train_bench [topk|architectures|auxk|breakeven] "
                 "[d_in d_sae k batch rounds]\n");
    return 2;
  }
  featurescope::CorrectBlasKernels();
  at::set_num_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  featurescope::Run(mode, sizes);
  return 0;
}
