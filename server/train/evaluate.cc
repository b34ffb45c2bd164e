// Forward only: what an SAE in training does with tokens that it is not trained on.
#include "server/train/sae_trainer.h"
#include "server/train/step_sizes.h"

namespace featurescope {

std::vector<Phase> SaeTrainer::EvaluationPhases() {
  const auto rows = [this](bool dense) { return dense_step_ == dense ? batch() : 0; };
  const auto phase = [](std::string name, std::function<int64_t()> n, int64_t block,
                        std::function<void(int64_t, int64_t)> run) -> Phase {
    return {std::move(name), std::move(n), block, std::move(run), absl::ZeroDuration()};
  };
  const auto select = [this](int64_t begin, int64_t end) { SelectRows(begin, end); };
  const int64_t block = EncodeRowsPerBlock(spec_, d_in_);
  std::vector<Phase> phases;
  AppendFirstPhases(&phases);
  phases.push_back(phase(
      "dense forward", [rows] { return rows(true); }, block,
      [this](int64_t begin, int64_t end) { EvaluateDenseRows(begin, end); }));
  phases.push_back(phase(
      "selection", [rows] { return rows(false); }, block, select));
  phases.push_back(phase(
      "selection again", [this] { return !dense_step_ && MustSelectAgain() ? batch() : 0; }, block,
      select));
  phases.push_back(phase(
      "order by feature", [rows] { return rows(false) > 0 ? 1 : 0; }, 1,
      [this](int64_t, int64_t) {
        OrderUnits();
        CountUnits();
      }));
  phases.push_back(phase(
      "decoder", [rows] { return rows(false); }, kDecodeRowsPerBlock,
      [this](int64_t begin, int64_t end) { DecodeRows(begin, end); }));
  phases.push_back(OnePhase("finish", [this] { FinishEvaluation(); }));
  return phases;
}

void SaeTrainer::BeginEvaluation(const StepSettings& settings) {
  settings_ = settings;
  evaluating_ = true;
  dense_step_ = forced_dense_.value_or(objective_->can_be_dense() && state_.density > kDenseAbove);
}

bool SaeTrainer::EvaluateFor(absl::Duration budget) {
  torch::NoGradGuard no_grad;
  return evaluation_work_.RunFor(budget);
}

void SaeTrainer::EvaluateDenseRows(int64_t begin, int64_t end) {
  Units units;
  units.z = Product(begin, end).add_(objective_->selection_bias());
  objective_->Activate(units);
  DenseErrors(units.acts, begin, end, &errors_);
  if (objective_->has_gate()) DenseErrors(units.gate_acts, begin, end, &gate_errors_);
  active_ += units.acts.ne(0).sum().item<int64_t>();
}

void SaeTrainer::FinishEvaluation() {
  ReportDecoding();
  // The mean of the tokens' own ratios, as evaluations before 2025 have it.
  const torch::Tensor y =
      traits_.skip ? target_ + torch::mm(input_, state_.W_skip.value.t()) : target_;
  const torch::Tensor variance = (y - y.mean(0)).pow(2).sum(1).to(torch::kFloat64);
  const torch::Tensor ratio = errors_.sums.select(1, kSquaredError) / variance.clamp_min(1e-30);
  result_.explained_variance_legacy = 1 - ratio.mean().item<double>();
}

}  // namespace featurescope
