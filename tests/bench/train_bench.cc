// Training steps against the same step written densely, and against their encoder product.
//
//   train_bench [topk] [d_in d_sae k batch rounds]        default 768 24576 32 4096 5
//   train_bench architectures [d_in d_sae k batch rounds]  every architecture's step
//   train_bench auxk [...]                                 TopK while some of its features are dead
//   train_bench breakeven [...]                            dense and sparse path by density
//
// What is compared runs in turn in one process, and a ratio is the median of the rounds' ratios.
// The dense step is what a user of LibTorch writes: autograd over matrix products and topk,
// gradient clipping, torch::optim::Adam, renormalised decoder rows.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/tensor/blas.h"
#include "server/tensor/torch.h"
#include "server/tensor/weight_product.h"
#include "server/train/sae_trainer.h"

namespace featurescope {
namespace {

constexpr char kProductAndSelection[] = "encoder product and selection";

struct Sizes {
  int64_t d_in = 768;
  int64_t d_sae = 24576;
  int64_t k = 32;
  int64_t batch = 4096;
  int rounds = 5;
};

struct Spent {
  double seconds = 0;
  double processor = 0;  // of all threads together, which wait asleep
};

double ProcessorSeconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Spent Measure(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  const double processor = ProcessorSeconds();
  work();
  return {absl::ToDoubleSeconds(absl::Now() - start), ProcessorSeconds() - processor};
}
double Seconds(const std::function<void()>& work) { return Measure(work).seconds; }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Seconds of several works, which run in turn.
class Rounds {
 public:
  // Runs each once to warm up and then `rounds` times.
  Rounds(int rounds, const std::vector<std::function<void()>>& works)
      : seconds_(works.size()), processor_(works.size()) {
    for (int round = -1; round < rounds; ++round) {
      std::printf("%s", round < 0 ? "warm-up:" : "round:  ");
      for (size_t i = 0; i < works.size(); ++i) {
        const Spent spent = Measure(works[i]);
        std::printf(" %.3f", spent.seconds);
        if (round < 0) continue;  // fresh pages, first threads
        seconds_[i].push_back(spent.seconds);
        processor_[i].push_back(spent.processor);
      }
      std::printf(" s\n");
      std::fflush(stdout);
    }
  }

  double Median(size_t work) const { return featurescope::Median(seconds_[work]); }
  // The median of the rounds' ratios: what else runs on the machine bears on both sides of one.
  // The median of the rounds' ratios: what else runs on the machine bears on both sides of one.
  double Ratio(size_t over, size_t under) const {
    return featurescope::Median(All(seconds_, over, under));
  }
  // Ratios of processor time are hardly moved by other programs.
  void PrintRatio(const char* what, size_t over, size_t under) const {
    std::vector<double> all = All(seconds_, over, under);
    std::sort(all.begin(), all.end());
    std::printf("RATIO %-33s = %.2f (%.2f to %.2f); of processor time %.2f\n", what,
                Ratio(over, under), all.front(), all.back(),
                featurescope::Median(All(processor_, over, under)));
  }

 private:
  using Times = std::vector<std::vector<double>>;

  static std::vector<double> All(const Times& times, size_t over, size_t under) {
    std::vector<double> all;
    for (size_t i = 0; i < times[over].size(); ++i) {
      all.push_back(times[over][i] / times[under][i]);
    }
    return all;
  }

  Times seconds_;    // of each work, in each round
  Times processor_;  // the same
};

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
  // Milliseconds of each phase of a step since the last call, the product apart from the selection.
  std::vector<std::pair<std::string, double>> TakePhases() {
    std::vector<std::pair<std::string, double>> all;
    const auto add = [&](const std::string& name, absl::Duration spent) {
      const double ms = absl::ToDoubleMilliseconds(spent - std::exchange(taken_[name], spent));
      if (ms / steps_ >= 0.05) all.emplace_back(name, ms / steps_);
    };
    for (const auto* phases : {&trainer_.sparse_phases(), &trainer_.dense_phases()}) {
      const char* path = phases == &trainer_.dense_phases() ? "dense: " : "";
      for (const Phase& phase : *phases) {
        if (phase.name != kProductAndSelection) {
          add(path + phase.name, phase.spent);
          continue;
        }
        add("encoder product", trainer_.product_time());
        add("selection", phase.spent - trainer_.product_time());
      }
    }
    steps_ = 0;
    return all;
  }
  void PrintPhases(const char* title) {
    std::printf("where the time of a step goes, %s (mean of all, the first included):\n", title);
    for (const auto& [name, ms] : TakePhases()) std::printf("  %-34s %8.1f ms\n", name.c_str(), ms);
  }
  SaeTrainer& trainer() { return trainer_; }

 private:
  TrainingSpec spec_;
  torch::Tensor x_;
  SaeTrainer trainer_;
  int steps_ = 0;
  std::map<std::string, absl::Duration> taken_;
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

// The encoder's product alone; a step's own does it block by block and copies the weights first.
class Product {
 public:
  Product(const Sizes& sizes, const torch::Tensor& x, torch::Tensor W_enc, ComputeDtype dtype,
          WeightProduct::Way way)
      : x_(x),
        W_enc_(std::move(W_enc)),
        pre_(torch::empty({sizes.batch, sizes.d_sae})),
        in_blocks_(way == WeightProduct::Way::kFastest || dtype == ComputeDtype::kBFloat16),
        product_(dtype == ComputeDtype::kBFloat16 ? WeightProduct::Factors::kBFloat16
                                                  : WeightProduct::Factors::kFloat32,
                 way) {}
  void Run() {
    torch::NoGradGuard no_grad;
    product_.SetWeights(W_enc_);
    const int64_t rows = in_blocks_ ? 256 : x_.size(0);
    for (int64_t i = 0; i < x_.size(0); i += rows) {
      const int64_t end = std::min(i + rows, x_.size(0));
      torch::Tensor out = pre_.slice(0, i, end);
      product_.Multiply(x_.slice(0, i, end), out);
    }
  }
  std::function<void()> AsWork() {
    return [this] { Run(); };
  }

 private:
  torch::Tensor x_, W_enc_, pre_;
  bool in_blocks_;
  WeightProduct product_;
};

// Bytes per second of a copy that no cache holds, read and written bytes both counted.
double MeasureBandwidth() {
  constexpr int64_t kFloats = 100'000'000;
  const torch::Tensor from = torch::ones({kFloats});
  torch::Tensor to = torch::zeros({kFloats});
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) seconds.push_back(Seconds([&] { to.copy_(from); }));
  return 8.0 * kFloats / Median(seconds);
}

// What a TopK step cannot do without, by phase: products in FLOPs, and bytes that it has to move if
// every matrix were read or written once where it is needed. Rows that are gathered count as often
// as they are, though most come from a cache.
void PrintBreakdown(const Sizes& sizes, const char* dtype,
                    const std::vector<std::pair<std::string, double>>& phases, double flop_rate,
                    double bandwidth) {
  const auto n = static_cast<double>(sizes.batch);
  const auto d = static_cast<double>(sizes.d_in);
  const auto m = static_cast<double>(sizes.d_sae);
  const double units = n * static_cast<double>(sizes.k);
  const double weights = 4 * d * m;
  const std::map<std::string, double> bytes = {
      {"target and its variance", 2 * 4 * n * d},
      {"weights for the product", weights},
      {"selection", 4 * n * m},
      {"decoder, error, its gradient", 2 * 4 * units * d + 2 * 4 * n * d},
      {"gradient of W_dec", 4 * units * d + 2 * weights},  // and its projection reads W_dec
      {"gradients of W_enc and b_enc", 4 * units * d + weights},
      {"gradient of b_dec, norm of all", weights},
      {"optimiser",
       2 * (3 + 3 + 1) * weights},  // value and moments read and written, gradient read
  };
  double total = 0;
  double total_floor = 0;
  std::printf("breakdown of a step, %s (means of the rounds); floors at %.0f GFLOP/s, %.1f GB/s\n",
              dtype, flop_rate * 1e-9, bandwidth * 1e-9);
  for (const auto& [name, ms] : phases) {
    const auto it = bytes.find(name);
    double floor = it == bytes.end() ? 0 : 1e3 * it->second / bandwidth;
    if (name == "encoder product") floor = 1e3 * 2 * n * d * m / flop_rate;
    std::printf("  %-34s %8.1f ms   floor %8.1f ms\n", name.c_str(), ms, floor);
    total += ms;
    total_floor += floor;
  }
  std::printf("  %-34s %8.1f ms   floor %8.1f ms\n", "all", total, total_floor);
}

void PrintSetup(const char* what, const Sizes& sizes) {
  const BlasLibrary blas = DescribeBlas();
  std::printf("%s, d_in %ld, d_sae %ld, k %ld, batch %ld, %d threads; %s, kernels for %s\n", what,
              static_cast<long>(sizes.d_in), static_cast<long>(sizes.d_sae),
              static_cast<long>(sizes.k), static_cast<long>(sizes.batch), at::get_num_threads(),
              blas.name.c_str(), blas.kernels.c_str());
}

// A step in one dtype and its products, among the works of a round.
struct Side {
  Side(const Sizes& sizes, const torch::Tensor& x, ComputeDtype dtype)
      : runner(SpecOf(sizes, "topk", dtype), x),
        usual(sizes, x, W_enc(), dtype, WeightProduct::Way::kLibraries),
        own(sizes, x, W_enc(), dtype, WeightProduct::Way::kFastest) {}
  torch::Tensor W_enc() { return runner.trainer().state().W_enc.value.clone(); }
  void AppendTo(std::vector<std::function<void()>>* works) {
    first = works->size();
    works->insert(works->end(), {usual.AsWork(), own.AsWork(), runner.AsWork()});
  }
  size_t usual_work() const { return first; }
  size_t own_work() const { return first + 1; }
  size_t step_work() const { return first + 2; }

  Runner runner;
  Product usual;  // LibTorch's or oneDNN's
  Product own;    // the step's
  size_t first = 0;
};

void RunTopK(const Sizes& sizes, const torch::Tensor& x) {
  PrintSetup("TopK step", sizes);
  std::vector<std::unique_ptr<Side>> sides;
  sides.push_back(std::make_unique<Side>(sizes, x, ComputeDtype::kFloat32));
  if (HasFastBfloat16()) sides.push_back(std::make_unique<Side>(sizes, x, ComputeDtype::kBFloat16));
  DenseStep dense(sides[0]->runner.trainer().state(), sizes.k);
  std::vector<std::function<void()>> works = {[&] { dense.Run(x); }};
  for (const auto& side : sides) side->AppendTo(&works);
  std::printf("columns: dense step; float32 and bfloat16: library's product, own product, step\n");
  for (const auto& side : sides) {
    side->runner.Step();  // fresh pages
    side->runner.TakePhases();
  }
  const Rounds rounds(sizes.rounds, works);
  const double bandwidth = MeasureBandwidth();
  const auto tokens = static_cast<double>(sizes.batch);
  const double flops = 2 * tokens * static_cast<double>(sizes.d_in * sizes.d_sae);
  for (const auto& side : sides) {
    const bool bf16 = side != sides[0];
    const double rate = flops / rounds.Median(side->own_work());
    PrintBreakdown(sizes, bf16 ? "bfloat16" : "float32", side->runner.TakePhases(), rate,
                   bandwidth);
    std::printf("product: %.0f GFLOP/s by libraries, %.0f here; step: %.0f tokens/s\n",
                1e-9 * flops / rounds.Median(side->usual_work()), 1e-9 * rate,
                tokens / rounds.Median(side->step_work()));
  }
  for (const auto& side : sides) {
    std::printf("%s\n", side == sides[0] ? "float32" : "bfloat16");
    rounds.PrintRatio("dense float32 step / step", 0, side->step_work());
    rounds.PrintRatio("step / own encoder product", side->step_work(), side->own_work());
    rounds.PrintRatio("step / library's encoder product", side->step_work(), side->usual_work());
  }
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
  const torch::Tensor W_enc = runners[0]->trainer().state().W_enc.value.clone();
  Product float32(sizes, x, W_enc, ComputeDtype::kFloat32, WeightProduct::Way::kFastest);
  Product bfloat16(sizes, x, W_enc, ComputeDtype::kBFloat16, WeightProduct::Way::kFastest);
  works.push_back(float32.AsWork());
  works.push_back(bfloat16.AsWork());
  const Rounds rounds(sizes.rounds, works);
  for (size_t i = 0; i < names.size(); ++i) {
    const bool bf16 = names[i].find("bfloat16") != std::string::npos;
    std::printf("%-32s %.3f s, L0 %.1f, RATIO step / encoder product = %.2f\n", names[i].c_str(),
                rounds.Median(i), runners[i]->trainer().result().l0,
                rounds.Ratio(i, names.size() + (bf16 ? 1 : 0)));
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
  const Rounds rounds(sizes.rounds, works);
  for (size_t i = 0; i < works.size(); ++i) {
    std::printf("dead %.3f of the features: RATIO step / step without dead features = %.2f\n",
                runners[i]->trainer().result().dead_share, rounds.Ratio(i, 0));
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
    const auto step = [&](bool dense) {
      runner.trainer().ForcePath(dense);
      runner.Step();
    };
    const Rounds rounds(sizes.rounds, {[&] { step(true); }, [&] { step(false); }});
    std::printf("density %.3f\n", runner.trainer().state().density);
    rounds.PrintRatio("dense path / sparse path", 0, 1);
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
  char** arguments = argv;
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
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) {  // threads that spin would count as busy
    ::setenv("OMP_WAIT_POLICY", "passive", 1);
    ::execv("/proc/self/exe", arguments);
  }
  featurescope::CorrectBlasKernels();
  at::set_num_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  featurescope::Run(mode, sizes);
  return 0;
}
