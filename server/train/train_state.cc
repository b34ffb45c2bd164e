#include "server/train/train_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace featurescope {
namespace {

// Random rows of the given norm.
torch::Tensor RandomDirections(int64_t rows, int64_t d, DecoderInit init, double norm,
                               at::Generator& generator) {
  torch::Tensor W = torch::empty({rows, d});
  if (init == DecoderInit::kZeros) return W.zero_();
  if (init == DecoderInit::kNormal) {
    W.normal_(0, 1, generator);
  } else {
    W.uniform_(init == DecoderInit::kUniform ? -1 : 0, 1, generator);
  }
  return W.mul_(norm / W.norm(2, {1}, /*keepdim=*/true).clamp_min_(1e-12));
}

torch::Tensor InitialEncoder(const TrainingSpec& spec, const TrainingWidths& widths,
                             const torch::Tensor& W_dec, at::Generator& generator) {
  if (spec.encoder_init == EncoderInit::kTransposed && !TraitsOf(spec).transcoder) {
    return W_dec.clone();
  }
  // Rows as short as the decoder's would leave features of a transcoder, which nothing ties to the
  // decoder, behind those that grow first: up to 40 % of them never fire.
  const double bound = 1 / std::sqrt(static_cast<double>(widths.d_in));
  return torch::empty({spec.d_sae, widths.d_in}).uniform_(-bound, bound, generator);
}

}  // namespace

bool HasParameter(const ArchitectureTraits& traits, absl::string_view name) {
  const bool gated = traits.family == ActivationFamily::kGated;
  if (name == "b_enc") return !gated;
  if (name == "threshold") return traits.family == ActivationFamily::kJumpRelu;
  if (name == "r_mag" || name == "b_gate" || name == "b_mag") return gated;
  if (name == "W_skip") return traits.skip;
  return true;
}

std::vector<int64_t> ParameterShape(absl::string_view name, const TrainingWidths& widths,
                                    int64_t d_sae) {
  if (name == "W_enc") return {d_sae, widths.d_in};
  if (name == "W_dec") return {d_sae, widths.d_out};
  if (name == "W_skip") return {widths.d_out, widths.d_in};
  if (name == "b_dec") return {widths.d_out};
  return {d_sae};
}

Trained MakeTrained(torch::Tensor value) {
  Trained trained;
  trained.m = torch::zeros_like(value);
  trained.v = torch::zeros_like(value);
  trained.value = std::move(value);
  return trained;
}

TrainState InitialState(const TrainingSpec& spec, const TrainingWidths& widths,
                        torch::Device device) {
  at::Generator generator = at::detail::createCPUGenerator(spec.seed);
  const torch::Tensor W_dec = RandomDirections(spec.d_sae, widths.d_out, spec.decoder_init,
                                               *spec.decoder_init_norm, generator);
  const torch::Tensor W_enc = InitialEncoder(spec, widths, W_dec, generator);
  TrainState state;
  const ArchitectureTraits traits = TraitsOf(spec);
  VisitParameters(state, [&](absl::string_view name, Trained& parameter) {
    if (!HasParameter(traits, name)) return;
    torch::Tensor value = torch::zeros(ParameterShape(name, widths, spec.d_sae));
    if (name == "W_enc") value = W_enc;
    if (name == "W_dec") value = W_dec;
    if (name == "threshold") value.fill_(spec.initial_threshold);
    parameter = MakeTrained(value.to(device));
  });
  state.tokens_since_fired = torch::zeros({spec.d_sae}, torch::kInt64);
  return state;
}

TrainState InitialState(const TrainingSpec& spec, int64_t d_in, torch::Device device) {
  return InitialState(spec, TrainingWidths{d_in, d_in}, device);
}

void InitializeFromBatch(const TrainingSpec& spec, const torch::Tensor& x, const torch::Tensor& y,
                         TrainState* state) {
  state->b_dec.value.copy_(InitialDecoderBias(spec.b_dec_init, y));
  if (!spec.center_encoder) return;
  Trained& bias = state->b_enc.value.defined() ? state->b_enc : state->b_gate;
  torch::Tensor center = x.mean(0);
  if (*spec.apply_b_dec_to_input) center = center - state->b_dec.value;
  bias.value.copy_(torch::mv(state->W_enc.value, center).neg_());
}

torch::Tensor GeometricMedian(const torch::Tensor& x) {
  constexpr int kRounds = 100;
  constexpr float kEnough = 1e-5F;
  torch::Tensor guess = x.mean(0);  // [d]
  for (int round = 0; round < kRounds; ++round) {
    torch::Tensor weights = (x - guess).norm(2, {1}).clamp_min_(1e-12).reciprocal_();  // [n]
    weights.div_(weights.sum());
    const torch::Tensor next = torch::mv(x.t(), weights);
    const bool enough = (next - guess).norm().item<float>() < kEnough;
    guess = next;
    if (enough) break;
  }
  return guess;
}

torch::Tensor InitialDecoderBias(DecoderBiasInit init, const torch::Tensor& x) {
  switch (init) {
    case DecoderBiasInit::kGeometricMedian:
      return GeometricMedian(x);
    case DecoderBiasInit::kMean:
      return x.mean(0);
    case DecoderBiasInit::kZeros:
      break;
  }
  return torch::zeros({x.size(1)}, x.options());
}

SaeConfig ExportConfig(const TrainingSpec& spec, const TrainingWidths& widths) {
  const ArchitectureTraits traits = TraitsOf(spec);
  SaeConfig config;
  config.architecture = spec.architecture;
  config.d_in = widths.d_in;
  config.d_sae = spec.d_sae;
  config.d_out = traits.transcoder ? widths.d_out : 0;
  config.k = traits.topk_family() ? spec.k : 0;
  if (traits.family == ActivationFamily::kMatryoshka) config.group_sizes = spec.group_sizes;
  config.apply_b_dec_to_input = *spec.apply_b_dec_to_input;
  config.rescale_acts_by_decoder_norm = traits.topk_family() && spec.select_by_decoder_norm;
  if (spec.input_scaling == InputScaling::kLayerNorm) {
    config.normalize_activations = NormalizeActivations::kLayerNorm;
  } else if (spec.input_scaling == InputScaling::kConstantNorm) {
    config.normalize_activations = NormalizeActivations::kConstantNormRescale;
  }
  return config;
}

SaeParameters ExportParameters(const TrainingSpec& spec, const TrainState& state,
                               const DataScales& scales) {
  const ArchitectureTraits traits = TraitsOf(spec);
  SaeParameters p;
  const auto scaled = [](const Trained& parameter, double factor) {
    return parameter.value.defined() ? parameter.value * factor : torch::Tensor();
  };
  p.W_enc = state.W_enc.value.t().contiguous();
  p.W_dec = scaled(state.W_dec, scales.input / scales.target);
  p.W_skip = scaled(state.W_skip, scales.input / scales.target);
  p.b_dec = scaled(state.b_dec, 1 / scales.target);
  p.b_enc = scaled(state.b_enc, 1 / scales.input);
  p.b_gate = scaled(state.b_gate, 1 / scales.input);
  p.b_mag = scaled(state.b_mag, 1 / scales.input);
  p.threshold = scaled(state.threshold, 1 / scales.input);
  p.r_mag = scaled(state.r_mag, 1);
  if (traits.family == ActivationFamily::kJumpRelu) p.threshold.clamp_min_(0);
  if (traits.batch_topk()) {
    // A run too short to have tracked a threshold has at least the last batch's.
    const double tracked = state.kept_threshold > 0 ? state.kept_threshold : state.last_minimum;
    p.threshold =
        torch::tensor(std::max(tracked, 1e-30) / scales.input, state.W_enc.value.options());
  }
  return p;
}

}  // namespace featurescope
