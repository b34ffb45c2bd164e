// What Llama, Mistral, Qwen and Gemma have in common: rotary positions, RMSNorm, grouped-query
// attention, a gated MLP, weights stored [d_out, d_in] under the same names.
//
// An architecture's own file says where it differs, in its defaults and in ModelConfig's switches.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/config.h"
#include "server/model/config_reader.h"
#include "server/model/model_weights.h"
#include "server/model/weight_reader.h"

namespace featurescope {

// What HF takes where config.json does not say it.
struct LlamaFamilyDefaults {
  int64_t n_ctx = 2048;
  int64_t d_head = 0;  // 0: hidden_size / num_attention_heads
  bool tied_embeddings = false;
  absl::string_view activation_key = "hidden_act";
  absl::string_view activation = "silu";
};

// The keys that all of them have; without biases and windows.
absl::StatusOr<ModelConfig> ReadLlamaFamilyConfig(ConfigReader& reader,
                                                  const LlamaFamilyDefaults& defaults);

// attention_bias: of q, k, v and the output alike.
absl::Status ReadAttentionBias(ConfigReader& reader, ModelConfig* config);

// sliding_window (null: none; absent: `absent`) for the layers for which `has_window` holds, unless
// layer_types says which they are.
absl::Status ReadWindows(ConfigReader& reader, int64_t absent,
                         const std::function<bool(int64_t layer)>& has_window, ModelConfig* config);

// use_sliding_window and max_window_layers of Qwen 2 and 3: only layers from the latter on have
// windows, and only where the former is true.
absl::Status ReadQwenWindows(ConfigReader& reader, ModelConfig* config);

absl::StatusOr<ModelWeights> ReadLlamaFamilyWeights(const ModelConfig& config,
                                                    WeightReader& reader);

}  // namespace featurescope
