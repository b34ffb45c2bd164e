// Changes of parameters that leave what an SAE computes as it is, or fold a scale into it.
#pragma once

#include "server/sae/sae.h"

namespace featurescope {

// The weights take x instead of x `scale`, and give back x_hat instead of x_hat `scale`.
//
//   W_enc *= scale    W_dec /= scale    b_dec /= scale     features stay as they are
//
// Source: SAELens, fold_activation_norm_scaling_factor.
void FoldInputScale(double scale, SaeParameters* parameters);

// The decoder's rows get norm 1, features grow by the norms that they had.
//
//   W_dec /= n    W_enc *= n    b_enc, threshold [d_sae], b_gate, b_mag *= n     n = |W_dec row|
//
// A row of zeros stays one, and its feature never fires.
// Source: SAELens, fold_W_dec_norm.
void FoldDecoderNorms(SaeParameters* parameters);

// The weights take inputs `norm` times as large, and features grow with them.
//
//   b_enc, b_dec, threshold, b_gate, b_mag *= norm
//
// Source: dictionary_learning, scale_biases.
void ScaleBiases(double norm, SaeParameters* parameters);

}  // namespace featurescope
