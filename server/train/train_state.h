// What an SAE in training is: parameters with their optimiser's moments, and what else a step needs
// to remember. A checkpoint holds exactly this.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/sae.h"
#include "server/tensor/torch.h"
#include "server/train/spec.h"

namespace featurescope {

struct Trained {
  torch::Tensor value;  // float32; undefined where the architecture does not have it
  torch::Tensor m;      // running means of the gradient
  torch::Tensor v;      // and of its square; both of the shape of `value`
};

// One of these for values and one for gradients; `T` is Trained or torch::Tensor.
template <typename T>
struct ParameterSet {
  // The encoder is held transposed, so that a feature's weights, and its gradient, are contiguous.
  T W_enc;      // [d_sae, d_in]
  T b_enc;      // [d_sae]; not gated
  T W_dec;      // [d_sae, d_out]
  T b_dec;      // [d_out]
  T threshold;  // [d_sae]; jumprelu
  T r_mag;      // [d_sae]; gated
  T b_gate;     // [d_sae]; gated
  T b_mag;      // [d_sae]; gated
  T W_skip;     // [d_out, d_in]; transcoders with skip
};

// Calls visit(name, parameter) for each, defined or not.
template <typename Set, typename Visitor>
void VisitParameters(Set& set, Visitor&& visit) {
  visit("W_enc", set.W_enc);
  visit("b_enc", set.b_enc);
  visit("W_dec", set.W_dec);
  visit("b_dec", set.b_dec);
  visit("threshold", set.threshold);
  visit("r_mag", set.r_mag);
  visit("b_gate", set.b_gate);
  visit("b_mag", set.b_mag);
  visit("W_skip", set.W_skip);
}
// The same for two sets side by side.
template <typename A, typename B, typename Visitor>
void VisitParameters(A& a, B& b, Visitor&& visit) {
  visit("W_enc", a.W_enc, b.W_enc);
  visit("b_enc", a.b_enc, b.b_enc);
  visit("W_dec", a.W_dec, b.W_dec);
  visit("b_dec", a.b_dec, b.b_dec);
  visit("threshold", a.threshold, b.threshold);
  visit("r_mag", a.r_mag, b.r_mag);
  visit("b_gate", a.b_gate, b.b_gate);
  visit("b_mag", a.b_mag, b.b_mag);
  visit("W_skip", a.W_skip, b.W_skip);
}

using Gradients = ParameterSet<torch::Tensor>;

struct TrainState : ParameterSet<Trained> {
  torch::Tensor tokens_since_fired;  // int64 [d_sae], on the CPU
  int64_t step = 0;                  // steps done
  double density = 1;                // share of units that the last step's selection kept
  // topk family: the running mean of the smallest kept activation; -1: none yet.
  double kept_threshold = -1;
  double last_minimum = 0;  // topk family: the smallest kept activation of the last step
  int64_t resamplings = 0;  // done
  // Inputs that dead features may restart from, drawn as they pass: keys [capacity], 0 for an empty
  // place, and rows [capacity, d_in]. On the CPU; undefined when nothing is collected.
  torch::Tensor drawn_keys;  // float64
  torch::Tensor drawn_rows;  // float32

  int64_t d_sae() const { return W_enc.value.size(0); }
  int64_t d_in() const { return W_enc.value.size(1); }
  int64_t d_out() const { return W_dec.value.size(1); }
  TrainingWidths widths() const { return {d_in(), d_out()}; }
};

// Whether an architecture has the parameter `name`, and its shape.
bool HasParameter(const ArchitectureTraits& traits, absl::string_view name);
std::vector<int64_t> ParameterShape(absl::string_view name, const TrainingWidths& widths,
                                    int64_t d_sae);

// Parameters as the spec wants them at the start, but those that depend on data: b_dec and, with
// center_encoder, b_enc. Depends only on the spec's seed.
TrainState InitialState(const TrainingSpec& spec, const TrainingWidths& widths,
                        torch::Device device);
TrainState InitialState(const TrainingSpec& spec, int64_t d_in, torch::Device device);

// Sets b_dec, and b_enc with center_encoder, from a first batch of inputs x [n, d_in] and targets y
// [n, d_out].
void InitializeFromBatch(const TrainingSpec& spec, const torch::Tensor& x, const torch::Tensor& y,
                         TrainState* state);

// Zero moments for `value`.
Trained MakeTrained(torch::Tensor value);

// Where b_dec should start: that of the rows of `x` [n, d_in].
torch::Tensor InitialDecoderBias(DecoderBiasInit init, const torch::Tensor& x);

// Weiszfeld's iteration for the point with the least sum of distances to the rows of x [n, d];
// ends after 100 rounds or when it moves by less than 1e-5.
torch::Tensor GeometricMedian(const torch::Tensor& x);

// What the inputs and targets were multiplied by in training.
struct DataScales {
  double input = 1;
  double target = 1;  // an SAE's: the same
};

// The state as an SAE's config (without its metadata) and parameters, for data that is not scaled.
// Since features are positively homogeneous, f(s x; b) = s f(x; b / s), only biases and thresholds
// change, and of a transcoder the decoder, by the ratio of the scales.
SaeConfig ExportConfig(const TrainingSpec& spec, const TrainingWidths& widths);
SaeParameters ExportParameters(const TrainingSpec& spec, const TrainState& state,
                               const DataScales& scales);

}  // namespace featurescope
