// The inner loops over one row of a matrix, compiled for several instruction sets and chosen at
// run time. Torch-free; rows are contiguous float32.
#pragma once

#include <cstdint>

namespace featurescope {

// What Adam does to each parameter of a row in one step; Kingma and Ba 2014, arXiv:1412.6980. With
// `keep` < 1 it is AdamW; Loshchilov and Hutter 2017, arXiv:1711.05101.
struct AdamStep {
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  // Separate, since 1 - 0.999F is off by 5e-5.
  float one_minus_beta1 = 0.1F;
  float one_minus_beta2 = 0.001F;
  float epsilon = 1e-8F;
  float step_size = 0;                // learning rate / (1 - beta1^t)
  float inverse_sqrt_correction = 1;  // 1 / sqrt(1 - beta2^t)
  float gradient_scale = 1;           // by clipping
  float keep = 1;                     // 1 - learning rate * weight decay
};

// w := keep w - step_size sign(m), with m the running mean of the gradient. momentum 0: signSGD.
// Bernstein et al. 2018, arXiv:1802.04434.
struct SignumStep {
  float momentum = 0;
  float step_size = 0;
  float gradient_scale = 1;
  float keep = 1;
};

struct RowKernels {
  // out += sum_j values[j] W[indices[j]], with rows of W of length d.
  void (*add_weighted_rows)(const float* W, int64_t d, const int32_t* indices, const float* values,
                            int64_t n, float* out);
  // out[j] = W[indices[j]] . g
  void (*row_dots)(const float* W, int64_t d, const int32_t* indices, int64_t n, const float* g,
                   float* out);
  float (*dot)(const float* a, const float* b, int64_t n);
  // out += a x
  void (*axpy)(float a, const float* x, float* out, int64_t n);
  // out = a x
  void (*scale)(float a, const float* x, float* out, int64_t n);
  // The k largest positive entries of row + bias (bias may be null), by rising index; ties go to
  // the smaller index. `scratch` holds TopKScratch(k) values. Returns how many there are.
  int64_t (*top_k_positive)(const float* row, const float* bias, int64_t m, int64_t k,
                            uint64_t* scratch, int32_t* indices, float* values);
  // Writes the entries of row + bias that are > 0 and returns how many there are; both outputs have
  // room for m of them.
  int64_t (*positive)(const float* row, const float* bias, int64_t m, int32_t* indices,
                      float* values);
  // One Adam step on a row; a null gradient stands for zeros. Denormals are flushed to zero, since
  // the moments of a feature that never fires would else stay there and slow every later step.
  void (*adam)(const AdamStep& step, float* w, float* m, float* v, const float* gradient,
               int64_t n);
  // One Signum step on a row, in the same way.
  void (*signum)(const SignumStep& step, float* w, float* m, const float* gradient, int64_t n);
};

constexpr int64_t TopKScratch(int64_t k) { return 2 * k + 128; }

// For the best instruction set of this machine: AVX-512, AVX2 with FMA, or what the compiler
// targets.
const RowKernels& BestRowKernels();

}  // namespace featurescope
