#include "server/sae/folds.h"

namespace featurescope {

void FoldInputScale(double scale, SaeParameters* parameters) {
  SaeParameters& p = *parameters;
  p.W_enc = p.W_enc * scale;
  p.W_dec = p.W_dec / scale;
  p.b_dec = p.b_dec / scale;
}

void FoldDecoderNorms(SaeParameters* parameters) {
  SaeParameters& p = *parameters;
  const torch::Tensor norms = p.W_dec.norm(2, {1});  // [d_sae]
  p.W_dec = p.W_dec / norms.masked_fill(norms == 0, 1).unsqueeze(1);
  p.W_enc = p.W_enc * norms;
  for (torch::Tensor* tensor : {&p.b_enc, &p.threshold, &p.b_gate, &p.b_mag}) {
    if (tensor->defined() && tensor->dim() == 1) *tensor = *tensor * norms;
  }
}

void ScaleBiases(double norm, SaeParameters* parameters) {
  SaeParameters& p = *parameters;
  for (torch::Tensor* tensor : {&p.b_enc, &p.b_dec, &p.threshold, &p.b_gate, &p.b_mag}) {
    if (tensor->defined()) *tensor = *tensor * norm;
  }
}

}  // namespace featurescope
