// Rotary positions: what config.json says about them, and the frequencies that follow.
//
// Scalings stretch a model beyond the context that it was trained on. In all of them dimension i
// turns by position * frequency_i; they differ in the frequencies (HF modeling_rope_utils):
//   linear   all divided by `factor`
//   dynamic  those of a larger theta that grows with the sequence; unscaled up to the context, and
//            longer sequences are refused: their early tokens would change with their length
//   llama3   long wave lengths divided by `factor`, short ones left, a blend between
//   yarn     the same along the dimensions, and all attention a little sharper; Peng et al. 2023,
//            arXiv:2309.00071
#pragma once

#include "absl/status/status.h"
#include "server/model/config.h"
#include "server/model/config_reader.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Reads rope_theta (or `theta_key`) and rope_scaling, or rope_parameters of newer releases, into
// config->rotary. Needs d_head and n_ctx, which yarn may raise.
//   rotary_share  how much of each head is rotated
//   errors        InvalidArgument, Unimplemented  naming the key
absl::Status ReadRotary(ConfigReader& reader, absl::string_view theta_key, double rotary_share,
                        ModelConfig* config);

// The angle by which each dimension turns from token to token, float32 [rotary_dims / 2].
torch::Tensor RotaryFrequencies(const RotaryConfig& config);

}  // namespace featurescope
