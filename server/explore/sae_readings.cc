#include "server/explore/sae_readings.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace featurescope {
namespace {

constexpr double kTiny = 1e-12;
constexpr double kLayerNormEpsilon = 1e-5;

torch::Tensor Norms(const torch::Tensor& x) { return x.norm(2, {1}, /*keepdim=*/true); }
torch::Tensor Means(const torch::Tensor& x) { return x.mean(1, /*keepdim=*/true); }
torch::Tensor Deviations(const torch::Tensor& x) {
  return x.std(1, /*unbiased=*/true, /*keepdim=*/true) + kLayerNormEpsilon;
}

// With one factor on the way in, undone on the way out.
SaeReading Scaled(absl::string_view what, double scale) {
  return {
      absl::StrFormat("%s: add it again with --norm-scaling-factor %.4g", std::string(what), scale),
      [scale](const torch::Tensor& x) { return x * scale; },
      [scale](const torch::Tensor& out, const torch::Tensor&) { return out / scale; }};
}

void AddScales(const Sae& sae, const torch::Tensor& x, std::vector<SaeReading>* readings) {
  const double mean_norm = Norms(x).mean().item<double>();
  const double mean_square = x.square().sum(1).mean().item<double>();
  if (!(mean_norm > kTiny)) return;
  const double to_root = std::sqrt(static_cast<double>(sae.config().d_in)) / mean_norm;
  readings->push_back(
      Scaled("activations scaled to a mean norm of sqrt(d_in), as SAELens' "
             "expected_average_only_in does in training, not folded into the weights",
             to_root));
  readings->push_back(
      Scaled("activations scaled to a mean square norm of 1, as dictionary_learning does in "
             "training, not folded into the weights",
             1 / std::sqrt(mean_square)));
  readings->push_back(
      Scaled("the scale sqrt(d_in) / mean norm folded into the weights twice", 1 / to_root));
}

void AddNormalizations(const Sae& sae, std::vector<SaeReading>* readings) {
  const double root_d = std::sqrt(static_cast<double>(sae.config().d_in));
  readings->push_back(
      {"each token normalised by its mean and standard deviation: add it again with "
       "--normalize-activations layer_norm",
       [](const torch::Tensor& x) { return (x - Means(x)) / Deviations(x); },
       [](const torch::Tensor& out, const torch::Tensor& x) {
         return out * Deviations(x) + Means(x);
       }});
  readings->push_back(
      {"each token scaled to the norm sqrt(d_in): add it again with "
       "--normalize-activations constant_norm_rescale",
       [root_d](const torch::Tensor& x) { return x * (root_d / Norms(x).clamp_min(kTiny)); },
       [root_d](const torch::Tensor& out, const torch::Tensor& x) {
         return out * (Norms(x) / root_d);
       }});
}

void AddDecoderBias(const Sae& sae, std::vector<SaeReading>* readings) {
  const torch::Tensor& b_dec = sae.parameters().b_dec;
  if (sae.config().apply_b_dec_to_input) {
    readings->push_back({"b_dec left on the input: add it again with --no-apply-b-dec-to-input",
                         [b_dec](const torch::Tensor& x) { return x + b_dec; }});
  } else {
    readings->push_back({"b_dec taken off the input: add it again with --apply-b-dec-to-input",
                         [b_dec](const torch::Tensor& x) { return x - b_dec; }});
  }
}

}  // namespace

std::vector<SaeReading> OtherReadings(const Sae& sae, const torch::Tensor& x) {
  std::vector<SaeReading> readings;
  // What a transcoder reads and writes have scales of their own, which nothing here undoes.
  if (sae.is_transcoder()) return readings;
  const NormalizeActivations mode = sae.config().normalize_activations;
  const bool normalizes = mode == NormalizeActivations::kConstantNormRescale ||
                          mode == NormalizeActivations::kLayerNorm;
  if (normalizes) return readings;
  AddScales(sae, x, &readings);
  AddNormalizations(sae, &readings);
  AddDecoderBias(sae, &readings);
  return readings;
}

}  // namespace featurescope
