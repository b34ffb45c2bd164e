// The weights of a decoder-only transformer in the one layout that the forward pass computes with.
//
// Linear maps are kept as x W + b whatever the file's orientation: a checkpoint that stores
// [d_out, d_in] is kept as a transposed view, which a matrix product takes at no cost.
#pragma once

#include <vector>

#include "server/tensor/torch.h"

namespace featurescope {

struct LinearWeights {
  torch::Tensor weight;  // [d_in, d_out]
  torch::Tensor bias;    // [d_out], or undefined
};

// float32 whatever the compute dtype: norms are computed in it.
struct NormWeights {
  torch::Tensor weight;  // [d_model], or [d_head] for q and k; undefined: there is no such norm
  torch::Tensor bias;    // [d_model], undefined for RMSNorm
};

struct BlockWeights {
  NormWeights ln1;
  LinearWeights qkv;   // columns: all heads of q, then the kv heads of k, then those of v
  NormWeights q_norm;  // of every head, where config.qk_norm
  NormWeights k_norm;
  LinearWeights attn_out;
  NormWeights attn_post_norm;  // of attention's result, where config.post_norms
  NormWeights ln2;
  LinearWeights mlp_in;  // the gate in gated MLPs
  LinearWeights mlp_up;  // gated MLPs only
  LinearWeights mlp_out;
  NormWeights mlp_post_norm;  // of the MLP's result, where config.post_norms
};

struct ModelWeights {
  torch::Tensor embed;      // [d_vocab, d_model]
  torch::Tensor pos_embed;  // [n_ctx, d_model], learned positions only
  std::vector<BlockWeights> blocks;
  NormWeights ln_final;
  torch::Tensor unembed;   // [d_model, d_vocab]; a view of `embed` where they are tied
  torch::Tensor inv_freq;  // float32 [rotary_dims / 2], rotary positions only
};

}  // namespace featurescope
