// A place in a transformer that can be observed or edited, named as TransformerLens names it:
// `hook_embed`, `blocks.3.hook_resid_pre`, `blocks.3.attn.hook_z`, `ln_final.hook_normalized`.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// In the order in which one forward pass reaches them; `layer` is -1 for those outside a block.
// hook_normalized is a LayerNorm's output, but an RMSNorm's before its weight, as in
// TransformerLens.
enum class HookKind : uint8_t {
  kEmbed,          // hook_embed                          [pos, d_model]
  kPosEmbed,       // hook_pos_embed                      [pos, d_model], learned positions only
  kResidPre,       // blocks.L.hook_resid_pre             [pos, d_model]
  kLn1Normalized,  // blocks.L.ln1.hook_normalized        [pos, d_model]
  kQ,              // blocks.L.attn.hook_q                [pos, head, d_head], before rotary
  kK,              // blocks.L.attn.hook_k                [pos, kv_head, d_head], before rotary
  kV,              // blocks.L.attn.hook_v                [pos, kv_head, d_head]
  kAttnScores,     // blocks.L.attn.hook_attn_scores      [head, query, key], masked with -inf
  kPattern,        // blocks.L.attn.hook_pattern          [head, query, key]
  kZ,              // blocks.L.attn.hook_z                [pos, head, d_head]
  kAttnOut,        // blocks.L.hook_attn_out              [pos, d_model]
  kResidMid,       // blocks.L.hook_resid_mid             [pos, d_model], sequential blocks only
  kLn2Normalized,  // blocks.L.ln2.hook_normalized        [pos, d_model]
  kMlpPre,         // blocks.L.mlp.hook_pre               [pos, d_mlp], the gate's in gated MLPs
  kMlpPreLinear,   // blocks.L.mlp.hook_pre_linear        [pos, d_mlp], gated MLPs only
  kMlpPost,        // blocks.L.mlp.hook_post              [pos, d_mlp]
  kMlpOut,         // blocks.L.hook_mlp_out               [pos, d_model]
  kResidPost,      // blocks.L.hook_resid_post            [pos, d_model]
  kLnFinal,        // ln_final.hook_normalized            [pos, d_model]
};

struct HookPoint {
  HookKind kind = HookKind::kResidPost;
  int layer = -1;

  // errors  InvalidArgument  not the name of a hook point; the message lists the known forms
  static absl::StatusOr<HookPoint> Parse(absl::string_view name);

  std::string name() const;

  friend bool operator==(const HookPoint&, const HookPoint&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HookPoint& p) {
    return H::combine(std::move(h), static_cast<int>(p.kind), p.layer);
  }
};

// Whether a hook of this kind belongs to a block (its name starts with `blocks.L.`).
bool IsInBlock(HookKind kind);

// Orders hook points as a forward pass with `n_layers` blocks reaches them.
int ExecutionOrder(const HookPoint& hook, int n_layers);

}  // namespace featurescope
