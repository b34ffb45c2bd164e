// hyperparams.json of Llama Scope (2024) and config.json of OpenMOSS' later library (lm_saes).
// Torch-free.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/config.h"

namespace featurescope {

enum class OpenMossNorm {
  kInference,    // nothing is scaled, or the scale is folded already
  kTokenWise,    // each row to norm sqrt(d_model)
  kDatasetWise,  // all rows by one factor, sqrt(d_model) / average norm
};

struct OpenMossConfig {
  // "standard", "topk", "batchtopk", "jumprelu", or "transcoder", "topk_transcoder",
  // "jumprelu_transcoder" where the hook points differ.
  SaeConfig config;
  SaeRecognition recognition;
  bool use_decoder_bias = true;
  // Features are selected by hidden_pre |W_dec row|.
  bool sparsity_include_decoder_norm = true;
  OpenMossNorm norm = OpenMossNorm::kInference;
  // Average norms of the dataset; unset: this file does not say.
  std::optional<double> average_norm_in;
  std::optional<double> average_norm_out;
  // One threshold for all features, > 0; unset: the weights have one for each, or there is none.
  std::optional<double> jump_relu_threshold;
};

// `path` begins the messages.
//
//   errors  InvalidArgument  a field is missing, of another type or out of range
//           Unimplemented    a setting that changes the numbers and is not supported, by name
absl::StatusOr<OpenMossConfig> ParseOpenMossConfig(const nlohmann::json& cfg,
                                                   absl::string_view path);

}  // namespace featurescope
