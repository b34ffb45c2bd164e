// Seeded orders: permutations that need no memory, and shuffles that are the same everywhere.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "server/base/hash.h"

namespace featurescope {

// A pseudo-random permutation of [0, n), computed place by place: a Feistel network over the next
// power of four, walked until it lands inside (Black and Rogaway 2002, "Ciphers with Arbitrary
// Finite Domains").
class Permutation {
 public:
  // REQUIRES: n >= 1.
  Permutation(uint64_t n, uint64_t seed) : n_(n), seed_(seed) {
    while (half_bits_ < 31 && (uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
  }

  // REQUIRES: i < n.
  uint64_t operator()(uint64_t i) const {
    do {
      i = Scramble(i);
    } while (i >= n_);
    return i;
  }

 private:
  uint64_t Scramble(uint64_t x) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = x >> half_bits_;
    uint64_t right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = Mix64(Mix64(seed_ ^ round) ^ right);
      left = std::exchange(right, (left ^ mixed) & mask);
    }
    return (left << half_bits_) | right;
  }

  uint64_t n_;
  uint64_t seed_;
  int half_bits_ = 1;
};

// Fisher and Yates' shuffle.
template <typename T>
void ShuffleInPlace(std::vector<T>& values, uint64_t seed) {
  for (uint64_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[Mix64(Mix64(seed) ^ i) % i]);
  }
}

}  // namespace featurescope
