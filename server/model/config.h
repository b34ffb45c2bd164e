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

enum class RopeScaling { kNone, kLinear, kDynamic, kLlama3, kYarn };

// Frequencies of rotary position embedding; Su et al. 2021, arXiv:2104.09864. See rotary.h.
struct RotaryConfig {
  double theta = 10000.0;
  int64_t rotary_dims = 0;  // of each head's first dimensions; rotated by halves
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;  // of the context, by all scalings
  // kLlama3 and kYarn.
  int64_t original_context = 0;  // tokens
  // kLlama3.
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  // kYarn.
  double attention_factor = 1.0;  // cosines and sines are multiplied by it
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;  // the ramp begins and ends at whole dimensions
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
  double norm_weight_offset = 0;   // added to stored norm weights: 1 where 0 is stored for 1
  bool post_norms = false;         // attention's and the MLP's results are normed, too (Gemma 2)
  bool parallel_residual = false;  // the MLP reads the block's input, not attention's result
  ActivationKind activation = ActivationKind::kGeluTanh;
  bool gated_mlp = false;
  PositionKind positions = PositionKind::kLearned;
  RotaryConfig rotary;
  double embed_scale = 1;         // token embeddings are multiplied by it
  double attention_scale = 0;     // scores are q k^T times it; readers leave 0 for 1 / sqrt(d_head)
  double attention_soft_cap = 0;  // scores become cap tanh(scores / cap); 0: none
  double logit_soft_cap = 0;      // the same of logits
  bool qk_norm = false;           // RMSNorm of each head's q and k before rotation
  std::vector<int64_t> windows;   // by layer, see WindowOf; empty: no layer has one
  bool attention_bias = true;     // biases of q, k, v
  bool attention_out_bias = true;
  bool mlp_bias = true;
  bool tied_embeddings = true;
  std::optional<uint32_t> bos_id;
  std::vector<uint32_t> eos_ids;

  // How many tokens a query of this layer sees, itself and those before it; 0: all of them.
  int64_t WindowOf(int layer) const {
    return windows.empty() ? 0 : windows[static_cast<size_t>(layer)];
  }

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

// The same of the file's text; `path` begins every error message.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view text, absl::string_view path);

}  // namespace featurescope
