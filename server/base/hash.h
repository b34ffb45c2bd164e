// Hashes for provenance (SHA-256) and for deterministic sampling (a mixed 64-bit integer).
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

// Streaming SHA-256 (FIPS 180-4).
class Sha256 {
 public:
  Sha256();
  void Update(absl::string_view bytes);
  // Lower-case hexadecimal, 64 characters. REQUIRES: called once, last.
  std::string HexDigest();

 private:
  void Block(const uint8_t* block);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> buffer_;
  size_t buffered_ = 0;
  uint64_t total_bytes_ = 0;
};

std::string Sha256Hex(absl::string_view bytes);

// A bijective mix of 64 bits in which every input bit moves every output bit (the finaliser of
// SplitMix64; Steele, Lea, Flood 2014). Hash of several values: Mix64(Mix64(seed ^ a) ^ b).
constexpr uint64_t Mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace featurescope
