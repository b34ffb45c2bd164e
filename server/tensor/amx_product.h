// x W^T on AMX, the matrix unit of Intel's processors from Sapphire Rapids on. Torch-free.
//
// The unit multiplies bfloat16 and sums in float32. A float32 factor is, to its last bit, the sum
// of three bfloat16 parts, x = x1 + x2 + x3, each some 2^8 times smaller than the one before; of
// the nine products of parts the six with i + j <= 4 give what a float32 product gives, up to
// rounding: what is left out is 2^-24 of the terms. That is six times the work, on a unit that is
// more than ten times as fast as float32 arithmetic.
//
// Source of the splitting: Henry, Tang, Heinecke 2019, arXiv:1904.06376.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace featurescope {

// Not thread-safe; runs on the threads of parallel.h. Results do not depend on their number.
class AmxProduct {
 public:
  enum class Factors {
    kFloat32,   // as precise as float32's own products
    kBFloat16,  // rounded to bfloat16
  };

  // Whether the processor has the unit and the system lets this process use it.
  static bool Available();
  // Bytes that a copy of weights [m, d] takes.
  static uint64_t WeightBytes(Factors factors, int64_t m, int64_t d);

  // REQUIRES: Available().
  explicit AmxProduct(Factors factors) : parts_(factors == Factors::kFloat32 ? 3 : 1) {}

  // Copies the weights W [m, d], row-major, in the layout that the unit reads.
  void SetWeights(const float* W, int64_t m, int64_t d);
  // out = x W^T.   x [n, d], out [n, m], row-major.   REQUIRES: SetWeights was called.
  void Multiply(const float* x, int64_t n, float* out);

 private:
  struct Free {
    void operator()(uint16_t* p) const { std::free(p); }
  };
  using Buffer = std::unique_ptr<uint16_t[], Free>;
  static Buffer Allocate(int64_t n_tiles);

  const int parts_;
  int64_t m_ = 0;
  int64_t d_ = 0;
  int64_t steps_ = 0;  // of 32 inputs each
  Buffer W_;           // tiles [feature / 16, step, part], each [16 pairs of inputs, 16 features]
  Buffer x_;           // tiles [row / 16, step, part], each [16 rows, 32 inputs]
};

}  // namespace featurescope
