#include "server/train/sae_trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "server/train/step_sizes.h"

namespace featurescope {

bool StepResult::finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }

SaeTrainer::SaeTrainer(const TrainingSpec& spec, TrainState state)
    : spec_(spec),
      d_in_(state.d_in()),
      d_sae_(state.d_sae()),
      kernels_(BestRowKernels()),
      state_(std::move(state)),
      operators_(!state_.W_enc.value.is_cpu()) {
  const torch::TensorOptions options = state_.W_enc.value.options();
  xc_ = torch::empty({batch(), d_in_}, options);
  g_ = torch::empty({batch(), d_in_}, options);
  W_enc_gradient_ = torch::empty({d_sae_, d_in_}, options);
  W_dec_gradient_ = torch::empty({d_sae_, d_in_}, options);
  b_enc_gradient_ = torch::zeros({d_sae_}, options);
  b_dec_gradient_ = torch::zeros({d_in_}, options);
  has_gradient_.resize(d_sae_);
  squared_gradient_ = torch::zeros({d_sae_}, options.dtype(torch::kFloat64));
  decoder_norms_ = torch::zeros({d_sae_}, options);
  activation_sums_ = torch::zeros({d_sae_}, options);
  row_sums_ = torch::zeros({batch(), kRowSums}, options.dtype(torch::kFloat64));
  group_sum_g_ = torch::zeros({RowGroups(batch()), d_in_}, options);
  group_sum_x_ = torch::zeros({RowGroups(batch()), d_in_}, options);
  scratch_ = torch::empty({EncodeRowsPerBlock(d_in_, d_sae_, batch()) * d_sae_}, options);
  sparse_work_ = PhasedWork(SparsePhases());
  dense_work_ = PhasedWork(DensePhases());
}

std::vector<Phase> SaeTrainer::SparsePhases() {
  const auto all_rows = [this] { return batch(); };
  const auto all_features = [this] { return d_sae_; };
  std::vector<Phase> phases;
  phases.push_back(OnePhase("begin", [this] { ClearStep(); }));
  phases.push_back(
      {"encoder product and selection", all_rows, EncodeRowsPerBlock(d_in_, d_sae_, batch()),
       [this](int64_t begin, int64_t end) { EncodeRows(begin, end); }, absl::ZeroDuration()});
  phases.push_back(OnePhase("order by feature", [this] { OrderEntries(); }));
  phases.push_back(
      {"decoder norms", [this] { return topk() ? 0 : d_sae_; }, FeaturesPerBlock(d_in_, d_sae_),
       [this](int64_t begin, int64_t end) { DecoderNorms(begin, end); }, absl::ZeroDuration()});
  phases.push_back({"decoder and feature gradients", all_rows, kDecodeRowsPerBlock,
                    [this](int64_t begin, int64_t end) {
                      operators_ ? DecodeRowsWithOperators(begin, end) : DecodeRows(begin, end);
                    },
                    absl::ZeroDuration()});
  phases.push_back(OnePhase("auxk", [this] { PrepareAuxK(); }));
  phases.push_back({"auxk rows",
                    [this] { return dead_.defined() && dead_.numel() > 0 ? batch() : 0; },
                    kAuxKRowsPerBlock, [this](int64_t begin, int64_t end) { AuxKRows(begin, end); },
                    absl::ZeroDuration()});
  phases.push_back({"weight gradients", all_features, FeaturesPerBlock(d_in_, d_sae_),
                    [this](int64_t begin, int64_t end) {
                      operators_ ? WeightGradientsWithOperators(begin, end)
                                 : WeightGradients(begin, end);
                    },
                    absl::ZeroDuration()});
  AppendUpdatePhases(&phases);
  return phases;
}

std::vector<Phase> SaeTrainer::DensePhases() {
  std::vector<Phase> phases;
  phases.push_back(OnePhase("begin", [this] { ClearStep(); }));
  phases.push_back({"decoder norms", [this] { return d_sae_; }, FeaturesPerBlock(d_in_, d_sae_),
                    [this](int64_t begin, int64_t end) { DecoderNorms(begin, end); },
                    absl::ZeroDuration()});
  phases.push_back({"dense forward and backward", [this] { return batch(); },
                    EncodeRowsPerBlock(d_in_, d_sae_, batch()),
                    [this](int64_t begin, int64_t end) { DenseRows(begin, end); },
                    absl::ZeroDuration()});
  phases.push_back({"weight gradients", [this] { return d_sae_; }, FeaturesPerBlock(d_in_, d_sae_),
                    [this](int64_t begin, int64_t end) { DenseWeightGradients(begin, end); },
                    absl::ZeroDuration()});
  AppendUpdatePhases(&phases);
  return phases;
}

void SaeTrainer::AppendUpdatePhases(std::vector<Phase>* phases) {
  phases->push_back(OnePhase("gradient norm", [this] { ClipGradient(); }));
  phases->push_back(
      {"adam", [this] { return result_.finite() ? d_sae_ : 0; }, FeaturesPerBlock(d_in_, d_sae_),
       [this](int64_t begin, int64_t end) {
         operators_ ? UpdateFeaturesWithOperators(begin, end) : UpdateFeatures(begin, end);
       },
       absl::ZeroDuration()});
  phases->push_back(OnePhase("finish", [this] { FinishStep(); }));
}

void SaeTrainer::BeginStep(double learning_rate, double l1_coefficient) {
  learning_rate_ = learning_rate;
  l1_coefficient_ = l1_coefficient;
  dense_step_ = !topk() && state_.density > kDenseAbove;
}

bool SaeTrainer::RunFor(absl::Duration budget) {
  torch::NoGradGuard no_grad;
  return dense_step_ ? dense_work_.RunFor(budget) : sparse_work_.RunFor(budget);
}

void SaeTrainer::ClearStep() {
  xc_.sub_(state_.b_dec.value);
  parts_.clear();
  std::fill(has_gradient_.begin(), has_gradient_.end(), 0);
  b_enc_gradient_.zero_();
  activation_sums_.zero_();
  squared_gradient_.zero_();
  group_sum_g_.zero_();
  group_sum_x_.zero_();
  row_sums_.zero_();
  active_ = 0;
  auxk_sum_ = 0;
  auxk_variance_ = 0;
  dead_ = torch::Tensor();
  result_ = StepResult();
}

void SaeTrainer::CountFired(const torch::Tensor& fired_columns) {
  auto* since = state_.tokens_since_fired.data_ptr<int64_t>();
  const bool* fired = fired_columns.data_ptr<bool>();
  int64_t dead = 0;
  for (int64_t f = 0; f < d_sae_; ++f) {
    since[f] = fired[f] ? 0 : since[f] + batch();
    dead += static_cast<int64_t>(since[f] >= static_cast<int64_t>(spec_.dead_after_tokens));
  }
  result_.dead_share = static_cast<double>(dead) / static_cast<double>(d_sae_);
  state_.density =
      static_cast<double>(active_) / (static_cast<double>(batch()) * static_cast<double>(d_sae_));
  result_.l0 = static_cast<double>(active_) / static_cast<double>(batch());
}

double SaeTrainer::RowTotal(int column) const {
  const torch::Tensor sums = row_sums_.cpu();
  const auto* values = sums.data_ptr<double>();
  double total = 0;
  for (int64_t row = 0; row < batch(); ++row) total += values[row * kRowSums + column];
  return total;
}

void SaeTrainer::FinishStep() {
  if (!result_.finite()) return;
  UpdateBiases();
  ++state_.step;
}

SaeTrainer::Gradients SaeTrainer::CopyGradients() const {
  torch::Tensor has = torch::empty({d_sae_, 1}, torch::kBool);
  std::copy(has_gradient_.begin(), has_gradient_.end(), has.data_ptr<bool>());
  const torch::Tensor stale = has.logical_not().to(W_enc_gradient_.device());
  return {W_enc_gradient_.masked_fill(stale, 0), b_enc_gradient_.clone(),
          W_dec_gradient_.masked_fill(stale, 0), b_dec_gradient_.clone()};
}

uint64_t SaeTrainer::MemoryBytes(const TrainingSpec& spec, int64_t d_in) {
  const auto d = static_cast<uint64_t>(d_in);
  const auto m = static_cast<uint64_t>(spec.d_sae);
  const auto n = static_cast<uint64_t>(spec.batch_size);
  const bool is_topk = spec.architecture == "topk";
  const auto block = static_cast<uint64_t>(EncodeRowsPerBlock(d_in, spec.d_sae, spec.batch_size));
  // Values, two moments and gradients; AuxK's copy of the dead features' encoder.
  const uint64_t matrices = (4 * 2 + (is_topk ? 1 : 0)) * m * d + 8 * (m + d);
  const uint64_t rows = 2 * n * d + (is_topk ? 1 : 2) * block * m;
  // An entry's index, value, gradient, and place in the order by feature.
  const uint64_t entry_bytes = 4 + 4 + 4 + 12;
  const auto entries = is_topk
                           ? n * static_cast<uint64_t>(spec.k)
                           : static_cast<uint64_t>(kDenseAbove * 2 * static_cast<double>(n * m));
  return sizeof(float) * (matrices + rows) + entry_bytes * entries;
}

}  // namespace featurescope
