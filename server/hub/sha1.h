// SHA-1 (FIPS 180-4), for the hashes that git gives to small files. Good against accidents, not
// against attacks: large files carry a SHA-256.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

class Sha1 {
 public:
  Sha1();
  void Update(absl::string_view bytes);
  // Lower-case hexadecimal, 40 characters. REQUIRES: called once, last.
  std::string HexDigest();

 private:
  void Block(const uint8_t* block);

  std::array<uint32_t, 5> state_;
  std::array<uint8_t, 64> buffer_;
  size_t buffered_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace featurescope
