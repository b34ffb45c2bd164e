#include "server/train/sae_trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/train/step_sizes.h"

namespace featurescope {
namespace {

Phase RowsPhase(std::string name, std::function<int64_t()> n, int64_t block,
                std::function<void(int64_t, int64_t)> run) {
  return {std::move(name), std::move(n), block, std::move(run), absl::ZeroDuration()};
}

WeightProduct::Factors FactorsOf(const TrainingSpec& spec) {
  return spec.compute_dtype == ComputeDtype::kBFloat16 ? WeightProduct::Factors::kBFloat16
                                                       : WeightProduct::Factors::kFloat32;
}

// Where the nested groups of features end; one group for all but Matryoshka SAEs.
std::vector<int64_t> GroupEnds(const TrainingSpec& spec) {
  if (spec.group_sizes.empty()) return {spec.d_sae};
  std::vector<int64_t> ends;
  for (const int64_t size : spec.group_sizes) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + size);
  }
  return ends;
}

}  // namespace

SaeTrainer::SaeTrainer(const TrainingSpec& spec, TrainState state)
    : spec_(spec),
      traits_(TraitsOf(spec)),
      d_in_(state.d_in()),
      d_out_(state.d_out()),
      d_sae_(state.d_sae()),
      kernels_(BestRowKernels()),
      state_(std::move(state)),
      objective_(MakeObjective(spec, state_)),
      auxk_(spec, state_),
      resampler_(spec),
      product_(FactorsOf(spec)) {
  const torch::TensorOptions options = state_.W_enc.value.options();
  decoder_.group_ends = GroupEnds(spec);
  input_ = torch::empty({batch(), d_in_}, options);
  const bool own_target = traits_.transcoder || !*spec_.apply_b_dec_to_input;
  target_ = own_target ? torch::empty({batch(), d_out_}, options) : input_;
  errors_.g = torch::empty({decoder_.n_groups() * batch(), d_out_}, options);
  errors_.sums = torch::zeros({batch(), kDecoderSums}, options.dtype(torch::kFloat64));
  if (objective_->has_gate()) {
    gate_errors_.g = torch::empty_like(errors_.g);
    gate_errors_.sums = torch::zeros_like(errors_.sums);
  }
  VisitParameters(state_, gradients_, [](absl::string_view, Trained& parameter, torch::Tensor& g) {
    if (parameter.value.defined()) g = torch::zeros_like(parameter.value);
  });
  dz_sums_ = torch::zeros({d_sae_}, options);
  has_gradient_.resize(d_sae_);
  squared_gradient_ = torch::zeros({d_sae_}, options.dtype(torch::kFloat64));
  if (objective_->needs_decoder_norms()) decoder_norms_ = torch::zeros({d_sae_}, options);
  fired_ = torch::zeros({d_sae_}, options);
  scratch_ = torch::empty({EncodeRowsPerBlock(spec, d_in_) * d_sae_}, options);
  sparse_work_ = PhasedWork(SparsePhases());
  dense_work_ = PhasedWork(DensePhases());
  evaluation_work_ = PhasedWork(EvaluationPhases());
}

void SaeTrainer::AppendFirstPhases(std::vector<Phase>* phases) {
  phases->push_back(OnePhase("target and its variance", [this] { ClearStep(); }));
  phases->push_back(RowsPhase(
      "decoder norms", [this] { return decoder_norms_.defined() ? d_sae_ : 0; },
      FeaturesPerBlock(d_out_, d_sae_),
      [this](int64_t begin, int64_t end) { DecoderNorms(begin, end); }));
  phases->push_back(OnePhase("weights for the product", [this] { BeginObjective(); }));
}

std::vector<Phase> SaeTrainer::SparsePhases() {
  const auto all_rows = [this] { return batch(); };
  const int64_t rows_per_block = EncodeRowsPerBlock(spec_, d_in_);
  const auto select = [this](int64_t begin, int64_t end) { SelectRows(begin, end); };
  std::vector<Phase> phases;
  AppendFirstPhases(&phases);
  phases.push_back(RowsPhase("encoder product and selection", all_rows, rows_per_block, select));
  phases.push_back(RowsPhase(
      "selection again", [this] { return MustSelectAgain() ? batch() : 0; }, rows_per_block,
      select));
  phases.push_back(OnePhase("order by feature", [this] {
    OrderUnits();
    CountUnits();
    CountFired();
  }));
  phases.push_back(RowsPhase("decoder, error, its gradient", all_rows, kDecodeRowsPerBlock,
                             [this](int64_t begin, int64_t end) { DecodeRows(begin, end); }));
  phases.push_back(OnePhase("gradients of the objective", [this] { FeatureGradients(); }));
  phases.push_back(RowsPhase(
      "auxk", [this] { return PrepareAuxK() ? batch() : 0; }, kAuxKRowsPerBlock,
      [this](int64_t begin, int64_t end) {
        auxk_.Rows(begin, end, &gradients_, &dz_sums_);
        if (end == batch()) auxk_.Finish(&gradients_);
      }));
  phases.push_back(OnePhase("losses and metrics", [this] { FinishObjective(); }));
  phases.push_back(RowsPhase(
      "gradient of W_dec", [this] { return loops() ? d_sae_ : 1; },
      FeaturesPerBlock(d_out_, d_sae_),
      [this](int64_t begin, int64_t end) {
        loops() ? DecoderGradients(begin, end) : WeightGradientsWithOperators();
      }));
  phases.push_back(RowsPhase(
      "gradients of W_enc and b_enc", [this] { return loops() ? d_sae_ : 0; },
      FeaturesPerBlock(d_in_, d_sae_),
      [this](int64_t begin, int64_t end) { EncoderGradients(begin, end); }));
  AppendLastPhases(&phases);
  return phases;
}

std::vector<Phase> SaeTrainer::DensePhases() {
  std::vector<Phase> phases;
  AppendFirstPhases(&phases);
  phases.push_back(RowsPhase(
      "dense forward and backward", [this] { return batch(); }, EncodeRowsPerBlock(spec_, d_in_),
      [this](int64_t begin, int64_t end) { DenseRows(begin, end); }));
  phases.push_back(OnePhase("losses and metrics", [this] { FinishObjective(); }));
  phases.push_back(RowsPhase(
      "weight gradients", [this] { return d_sae_; }, FeaturesPerBlock(d_in_, d_sae_),
      [this](int64_t begin, int64_t end) { DenseWeightGradients(begin, end); }));
  AppendLastPhases(&phases);
  return phases;
}

void SaeTrainer::AppendLastPhases(std::vector<Phase>* phases) {
  phases->push_back(OnePhase("gradient of b_dec, norm of all", [this] { FinishGradients(); }));
  phases->push_back(RowsPhase(
      "optimiser", [this] { return result_.finite() ? d_sae_ : 0; },
      FeaturesPerBlock(d_in_, d_sae_),
      [this](int64_t begin, int64_t end) { UpdateFeatures(begin, end); }));
  phases->push_back(OnePhase("biases and threshold", [this] { FinishStep(); }));
}

void SaeTrainer::BeginStep(const StepSettings& settings) {
  settings_ = settings;
  evaluating_ = false;
  dense_step_ = forced_dense_.value_or(objective_->can_be_dense() && state_.density > kDenseAbove);
}

bool SaeTrainer::RunFor(absl::Duration budget) {
  torch::NoGradGuard no_grad;
  return dense_step_ ? dense_work_.RunFor(budget) : sparse_work_.RunFor(budget);
}

void SaeTrainer::ClearStep() {
  result_ = StepResult();
  result_.k = traits_.topk_family() ? static_cast<double>(settings_.k) : 0;
  PrepareTarget();
  sum_x_ = input_.sum(0);
  decoder_.W = state_.W_dec.value;
  std::fill(has_gradient_.begin(), has_gradient_.end(), 0);
  for (torch::Tensor* g : {&gradients_.threshold, &gradients_.r_mag, &gradients_.b_gate,
                           &gradients_.b_mag, &dz_sums_, &squared_gradient_, &fired_}) {
    if (g->defined()) g->zero_();
  }
  active_ = 0;
  selected_ = 0;
}

// input_ and target_ become what the encoder sees and what the decoder is to reach without b_dec.
void SaeTrainer::PrepareTarget() {
  const torch::Tensor& b_dec = state_.b_dec.value;
  if (traits_.transcoder) {
    target_.sub_(b_dec);
  } else if (*spec_.apply_b_dec_to_input) {
    input_.sub_(b_dec);
  } else {
    at::sub_out(target_, input_, b_dec);
  }
  const torch::Tensor sum = target_.sum(0).to(torch::kFloat64);
  const double squares = target_.norm(2, {1}).to(torch::kFloat64).pow(2).sum().item<double>();
  const auto n = static_cast<double>(batch());
  total_variance_ = squares - sum.pow(2).sum().item<double>() / n;
  result_.total_variance = total_variance_ / n;
  if (traits_.skip) target_.addmm_(input_, state_.W_skip.value.t(), 1, -1);
  switch (spec_.reconstruction_scale) {
    case ReconstructionScale::kSum:
      return GroupWeights(1 / n);
    case ReconstructionScale::kMean:
      return GroupWeights(1 / (n * static_cast<double>(d_out_)));
    case ReconstructionScale::kVariance:
      return GroupWeights(1 / std::max(total_variance_, 1e-30));
  }
}

void SaeTrainer::GroupWeights(double scale) {
  decoder_.weights.assign(decoder_.group_ends.size(), scale);
  for (size_t i = 0; i < spec_.group_weights.size(); ++i) {
    decoder_.weights[i] *= spec_.group_weights[i];
  }
}

void SaeTrainer::DecoderNorms(int64_t begin, int64_t end) {
  torch::Tensor norms = decoder_norms_.slice(0, begin, end);
  at::norm_out(norms, state_.W_dec.value.slice(0, begin, end), 2, {1});
}

void SaeTrainer::BeginObjective() {
  objective_->Begin(settings_, decoder_norms_);
  if (traits_.topk_family() && !evaluating_) auxk_.Begin(decoder_norms_);
  product_.SetWeights(state_.W_enc.value);
}

torch::Tensor SaeTrainer::Product(int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  torch::Tensor pre = scratch_.slice(0, 0, n * d_sae_).view({n, d_sae_});
  const torch::Tensor x = input_.slice(0, begin, end);
  product_.Multiply(x, pre);
  return pre;
}

// From fired_ and active_.
void SaeTrainer::CountFired() {
  const torch::Tensor counts = fired_.cpu();
  const float* fired = counts.data_ptr<float>();
  auto* since = state_.tokens_since_fired.data_ptr<int64_t>();
  const auto often = static_cast<float>(batch()) / 10;
  int64_t dead = 0;
  int64_t dense = 0;
  for (int64_t f = 0; f < d_sae_; ++f) {
    since[f] = fired[f] > 0 ? 0 : since[f] + batch();
    dead += static_cast<int64_t>(since[f] >= static_cast<int64_t>(spec_.dead_after_tokens));
    dense += static_cast<int64_t>(fired[f] > often);
  }
  const auto n = static_cast<double>(batch());
  const auto m = static_cast<double>(d_sae_);
  result_.dead_share = static_cast<double>(dead) / m;
  result_.dense_share = static_cast<double>(dense) / m;
  state_.density = static_cast<double>(selected_) / (n * m);
}

double SaeTrainer::DecoderSum(const DecoderErrors& errors, int column) const {
  return errors.sums.select(1, column).sum().item<double>();
}

// L0, errors and how y_hat compares with y.
void SaeTrainer::ReportDecoding() {
  const auto n = static_cast<double>(batch());
  result_.l0 = static_cast<double>(active_) / n;
  const torch::Tensor error = errors_.sums.select(1, kSquaredError);
  const torch::Tensor squared = errors_.sums.select(1, kSquaredTarget);   // |y|^2
  const torch::Tensor cross = errors_.sums.select(1, kTargetTimesError);  // y . (y_hat - y)
  const torch::Tensor dot = squared + cross;                              // y . y_hat
  const torch::Tensor output = (dot + cross + error).clamp_min_(0);       // |y_hat|^2
  result_.mse = error.sum().item<double>() / n;
  result_.dot = dot.sum().item<double>() / n;
  result_.squared_output = output.sum().item<double>() / n;
  result_.cosine =
      (dot / (squared.clamp_min(0) * output).sqrt_().clamp_min_(1e-30)).sum().item<double>() / n;
  result_.loss = DecoderSum(errors_, kWeightedError);
  if (objective_->has_gate()) {
    result_.gate_mse = DecoderSum(gate_errors_, kSquaredError) / n;
    result_.loss += DecoderSum(gate_errors_, kWeightedError);
  }
}

void SaeTrainer::FinishObjective() {
  ReportDecoding();
  if (traits_.topk_family()) {
    result_.auxk_loss = auxk_.loss();
    result_.loss += *spec_.auxk_coefficient * result_.auxk_loss;
  }
  Objective::BatchSums sums;
  sums.sum_x = sum_x_;
  sums.units_of = dense_step_ ? torch::full_like(fired_, static_cast<double>(batch()))
                              : columns_.column_offsets.diff().to(torch::kFloat32);
  sums.fired = fired_ > 0;
  objective_->Finish(sums, gradients_, &result_);
}

Gradients SaeTrainer::CopyGradients() const {
  torch::Tensor has = torch::empty({d_sae_, 1}, torch::kBool);
  std::copy(has_gradient_.begin(), has_gradient_.end(), has.data_ptr<bool>());
  const torch::Tensor stale = has.logical_not().to(gradients_.W_enc.device());
  Gradients copy = gradients_;
  VisitParameters(copy, [&](absl::string_view name, torch::Tensor& g) {
    if (!g.defined()) return;
    g = name == "W_enc" || name == "W_dec" ? g.masked_fill(stale, 0) : g.clone();
  });
  return copy;
}

uint64_t SaeTrainer::MemoryBytes(const TrainingSpec& spec, const TrainingWidths& widths) {
  const ArchitectureTraits traits = TraitsOf(spec);
  const auto m = static_cast<uint64_t>(spec.d_sae);
  const auto n = static_cast<uint64_t>(spec.batch_size);
  const auto d_in = static_cast<uint64_t>(widths.d_in);
  const auto d_out = static_cast<uint64_t>(widths.d_out);
  const uint64_t weights = m * (d_in + d_out) + (traits.skip ? d_in * d_out : 0);
  const uint64_t groups = std::max<uint64_t>(spec.group_sizes.size(), 1);
  const bool sparse_only = traits.topk_family();
  const uint64_t gates = traits.family == ActivationFamily::kGated ? 1 : 0;
  // Values, two moments and gradients; AuxK's copies of the dead features' weights.
  uint64_t floats = 4 * weights + 24 * (m + d_in + d_out);
  if (traits.topk_family()) floats += 2 * weights;
  floats += WeightProduct::WeightBytes(FactorsOf(spec), spec.d_sae, widths.d_in) / sizeof(float);
  if (spec.resample_tokens != 0) floats += m * (d_in + 2);
  floats += n * (2 * d_in + (groups + gates + 2) * d_out);
  const uint64_t block = static_cast<uint64_t>(EncodeRowsPerBlock(spec, widths.d_in)) * m;
  floats += (sparse_only ? 2 : 5 + 3 * gates) * block;
  // A unit's index, activation, gradients, and place in the order by feature; and, of AuxK, its
  // candidates.
  constexpr uint64_t kUnitBytes = 4 * 6 + 4 + 8;
  const auto k =
      static_cast<uint64_t>(std::max(spec.k, spec.k_anneal_steps > 0 ? spec.k_initial : 0));
  uint64_t units = sparse_only ? n * k * (traits.batch_topk() ? 4 : 1)
                               : static_cast<uint64_t>(kDenseAbove * static_cast<double>(n * m));
  if (sparse_only) units += n * static_cast<uint64_t>(spec.k_aux) / 2;
  return sizeof(float) * floats + kUnitBytes * units;
}

}  // namespace featurescope
