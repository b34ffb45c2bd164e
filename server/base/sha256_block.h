// The compression function of SHA-256 (FIPS 180-4, 6.2.2): portable, and with the processor's SHA
// instructions where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace featurescope {

using Sha256State = std::array<uint32_t, 8>;

// Takes `n_blocks` blocks of 64 bytes into the state.
using Sha256Compress = void (*)(Sha256State& state, const uint8_t* blocks, size_t n_blocks);

void CompressPortably(Sha256State& state, const uint8_t* blocks, size_t n_blocks);

// The fastest that this processor has.
Sha256Compress BestSha256Compress();

}  // namespace featurescope
