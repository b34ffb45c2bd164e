// The SAE architectures, one line each; Sae::Create looks here.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/sae.h"

namespace featurescope {

// One bit for each of SaeParameters.
enum SaeParameterBits : unsigned {
  kWEnc = 1,
  kBEnc = 2,
  kWDec = 4,
  kBDec = 8,
  kThreshold = 16,
  kRMag = 32,
  kBGate = 64,
  kBMag = 128,
  kWSkip = 256,
  kLinear = kWEnc | kBEnc | kWDec | kBDec,
};

struct SaeParameterSpec {
  unsigned bit;
  absl::string_view name;  // as SAELens' files spell it
  torch::Tensor SaeParameters::*tensor;
};
inline constexpr SaeParameterSpec kSaeParameterSpecs[] = {
    {kWEnc, "W_enc", &SaeParameters::W_enc},
    {kBEnc, "b_enc", &SaeParameters::b_enc},
    {kWDec, "W_dec", &SaeParameters::W_dec},
    {kBDec, "b_dec", &SaeParameters::b_dec},
    {kThreshold, "threshold", &SaeParameters::threshold},
    {kRMag, "r_mag", &SaeParameters::r_mag},
    {kBGate, "b_gate", &SaeParameters::b_gate},
    {kBMag, "b_mag", &SaeParameters::b_mag},
    {kWSkip, "W_skip", &SaeParameters::W_skip},
};

struct SaeArchitecture {
  absl::string_view name;  // as cfg.json spells it, where SAELens knows it
  // Makes one of checked parameters; may refuse a config that this architecture does not have.
  absl::StatusOr<std::shared_ptr<Sae>> (*make)(SaeConfig config, SaeParameters parameters);
  unsigned parameters;  // what it has
  bool saelens = true;  // SAELens 6 has it for inference, under this name
};

absl::StatusOr<std::shared_ptr<Sae>> MakeStandardSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeTanhReluSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeTopKSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeGroupMaxSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeBatchTopKSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeMatryoshkaSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeJumpReluSae(SaeConfig config, SaeParameters parameters);
absl::StatusOr<std::shared_ptr<Sae>> MakeGatedSae(SaeConfig config, SaeParameters parameters);

// A transcoder encodes as an SAE does; what differs (d_out, b_dec, the way back, the skip) is
// Sae's own, by IsTranscoder(name) and W_skip.
inline constexpr SaeArchitecture kSaeArchitectures[] = {
    {"standard", MakeStandardSae, kLinear},
    {"topk", MakeTopKSae, kLinear},
    {"batchtopk", MakeBatchTopKSae, kLinear | kThreshold, false},
    {"matryoshka_batchtopk", MakeMatryoshkaSae, kLinear | kThreshold, false},
    {"jumprelu", MakeJumpReluSae, kLinear | kThreshold},
    {"gated", MakeGatedSae, kWEnc | kWDec | kBDec | kRMag | kBGate | kBMag},
    {"tanh_relu", MakeTanhReluSae, kLinear, false},
    {"groupmax", MakeGroupMaxSae, kLinear, false},
    {"transcoder", MakeStandardSae, kLinear},
    {"skip_transcoder", MakeStandardSae, kLinear | kWSkip},
    {"jumprelu_transcoder", MakeJumpReluSae, kLinear | kThreshold},
    {"jumprelu_skip_transcoder", MakeJumpReluSae, kLinear | kThreshold | kWSkip, false},
    {"topk_transcoder", MakeTopKSae, kLinear, false},
    {"topk_skip_transcoder", MakeTopKSae, kLinear | kWSkip, false},
};

// The shape of a parameter. REQUIRES: config.d_out is set.
std::vector<int64_t> ParameterShape(unsigned bit, const SaeConfig& config);

// nullptr when `name` is none of them.
const SaeArchitecture* FindSaeArchitecture(absl::string_view name);
// Unimplemented, listing the names above, when `name` is none of them.
absl::Status CheckSaeArchitecture(absl::string_view name);

}  // namespace featurescope
