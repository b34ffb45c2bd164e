// The inner loops of norms, activations and rotary positions on the CPU, compiled for several
// instruction sets. Rows are contiguous; all values are float32. Outputs may be inputs.
#pragma once

#include <cstdint>

namespace featurescope {

// out = (x - mean) / sqrt(var + eps) * weight + bias, for each of n_rows rows of d values.
void LayerNormRows(const float* x, const float* weight, const float* bias, float eps,
                   int64_t n_rows, int64_t d, float* out);

// out = x / sqrt(mean(x^2) + eps), times weight unless it is null.
void RmsNormRows(const float* x, const float* weight, float eps, int64_t n_rows, int64_t d,
                 float* out);

// x = x * sigmoid(cubic * x^3 + linear * x), in place: SiLU, and GELU's tanh form. Times `factor`
// unless it is null.
void SigmoidGate(float linear, float cubic, int64_t n, const float* factor, float* x);

// x = cap tanh(x / cap), in place.
void SoftCap(float cap, int64_t n, float* x);

// bfloat16 as its bits; rounded to nearest.
void WidenBfloat16(const uint16_t* from, int64_t n, float* to);
void NarrowToBfloat16(const float* from, int64_t n, uint16_t* to);

// Rotates the first 2 * r dimensions of each of n_heads heads of d_head values.
void RotateHeads(const float* x, const float* cosine, const float* sine, int64_t r, int64_t n_heads,
                 int64_t d_head, float* out);

}  // namespace featurescope
