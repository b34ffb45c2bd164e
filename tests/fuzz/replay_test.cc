// Runs a fuzz target, without libFuzzer, over its seeds, their truncations and random damage.

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "tests/formats/test_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace featurescope {
namespace {

void RunTarget(const std::string& bytes) {
  ASSERT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
            0);
}

TEST(FuzzReplayTest, SeedsAndTheirDamagedCopiesAreHandled) {
  int n_seeds = 0;
  std::mt19937 random(17);
  for (const auto& seed : std::filesystem::directory_iterator(
           SourcePath("tests/fuzz/corpus/" FEATURESCOPE_FUZZ_TARGET))) {
    const std::string bytes = ReadBytes(seed.path().string());
    ++n_seeds;
    RunTarget(bytes);
    for (int round = 0; round < 100; ++round) {
      RunTarget(bytes.substr(0, random() % (bytes.size() + 1)));
      std::string damaged = bytes;
      for (int i = 0; i <= round % 4 && !damaged.empty(); ++i) {
        damaged[random() % damaged.size()] = static_cast<char>(random());
      }
      RunTarget(damaged);
    }
  }
  EXPECT_GT(n_seeds, 2);
}

}  // namespace
}  // namespace featurescope
