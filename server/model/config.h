// What a decoder-only transformer is, as data: one description that all architectures share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/hook_point.h"

namespace featurescope {

enum class NormKind { kLayerNorm, kRmsNorm };
enum class ActivationKind { kRelu, kGeluExact, kGeluTanh, kSilu };
enum class PositionKind { kLearned, kRotary };

// Frequencies of rotary position embedding; Su et al. 2021, arXiv:2104.09864.
struct RotaryConfig {
  double theta = 10000.0;
  int64_t rotary_dims = 0;  // of each head's first dimensions; rotated by halves
  // "llama3" scaling (HF modeling_rope_utils); 1: none.
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_context = 0;  // tokens
};

struct ModelConfig {
  std::string model_type;  // as in config.json
  int n_layers = 0;
  int64_t d_model = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t d_head = 0;
  int64_t d_mlp = 0;
  int64_t d_vocab = 0;
  int64_t n_ctx = 0;  // tokens, the longest sequence
  NormKind norm = NormKind::kLayerNorm;
  double norm_eps = 1e-5;
  ActivationKind activation = ActivationKind::kGeluTanh;
  bool gated_mlp = false;
  PositionKind positions = PositionKind::kLearned;
  RotaryConfig rotary;
  bool attention_bias = true;  // biases of q, k, v
  bool attention_out_bias = true;
  bool mlp_bias = true;
  bool tied_embeddings = true;
  std::optional<uint32_t> bos_id;
  std::vector<uint32_t> eos_ids;

  // Whether the forward pass has this hook point, and the shape of one token's value there, without
  // the leading [pos]; e.g. {d_model} or {n_heads, d_head}. Scores and patterns have {n_heads, -1,
  // -1}.
  //   errors  InvalidArgument  no such hook in this model; the message says why
  absl::StatusOr<std::vector<int64_t>> HookShape(const HookPoint& hook) const;
  // The product of HookShape: the d_in of an SAE there. Not for scores and patterns.
  absl::StatusOr<int64_t> HookWidth(const HookPoint& hook) const;
  std::vector<HookPoint> AllHooks() const;
};

// Reads config.json of a directory in HF layout.
//
//   errors  NotFound         no config.json
//           InvalidArgument  a field is missing or out of range; the message names it
//           Unimplemented    an architecture, or a setting that changes the maths, that is not
//                            supported; never ignored
absl::StatusOr<ModelConfig> ReadModelConfig(absl::string_view directory);

}  // namespace featurescope
