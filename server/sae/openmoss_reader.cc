#include "server/sae/openmoss_reader.h"

#include <cmath>

#include "server/base/status.h"

namespace featurescope {

bool HasOpenMossNames(const WeightSource& weights) {
  return weights.HasAll({"W_E", "b_E", "W_D"}) ||
         weights.HasAll({"encoder.weight", "encoder.bias", "decoder.weight"});
}

absl::Status LoadOpenMossWeights(WeightSource& weights, const OpenMossConfig& cfg,
                                 torch::Device device, SaeParameters* parameters) {
  const int64_t d_in = cfg.config.d_in;
  const int64_t d_sae = cfg.config.d_sae;
  SaeParameters& p = *parameters;
  const bool later = weights.Has("W_E");
  if (later) {
    ASSIGN_OR_RETURN(p.W_enc, weights.Load("W_E", {d_in, d_sae}, device));
    ASSIGN_OR_RETURN(p.b_enc, weights.Load("b_E", {d_sae}, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.Load("W_D", {d_sae, d_in}, device));
  } else {
    ASSIGN_OR_RETURN(p.W_enc, weights.LoadTransposed("encoder.weight", d_sae, d_in, device));
    ASSIGN_OR_RETURN(p.b_enc, weights.Load("encoder.bias", {d_sae}, device));
    ASSIGN_OR_RETURN(p.W_dec, weights.LoadTransposed("decoder.weight", d_in, d_sae, device));
  }
  if (!cfg.use_decoder_bias) {
    p.b_dec = torch::zeros({d_in}, torch::TensorOptions(torch::kFloat32).device(device));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(p.b_dec, weights.Load(later ? "b_D" : "decoder.bias", {d_in}, device));
  return absl::OkStatus();
}

absl::StatusOr<OpenMossScales> FoldOpenMossNorm(const OpenMossConfig& cfg, SaeContent* content) {
  OpenMossScales scales;
  if (cfg.norm == OpenMossNorm::kTokenWise) {
    content->config.normalize_activations = NormalizeActivations::kConstantNormRescale;
    return scales;
  }
  if (cfg.norm == OpenMossNorm::kInference) return scales;
  if (!cfg.average_norm_in.has_value()) {
    // All formats share the way to give a factor, and the warning where there is none.
    content->config.normalize_activations = NormalizeActivations::kExpectedAverageOnlyIn;
    return scales;
  }
  const double root = std::sqrt(static_cast<double>(cfg.config.d_in));
  scales.in = root / *cfg.average_norm_in;
  scales.out = root / cfg.average_norm_out.value_or(*cfg.average_norm_in);
  SaeParameters& p = content->parameters;
  p.b_enc = p.b_enc / scales.in;
  p.W_dec = p.W_dec * (scales.in / scales.out);
  p.b_dec = p.b_dec / scales.out;
  content->recognition.folds.push_back(
      scales.in == scales.out
          ? absl::StrCat("dataset norm: scale ", scales.in)
          : absl::StrCat("dataset norm: scale ", scales.in, " in, ", scales.out, " out"));
  return scales;
}

}  // namespace featurescope
