#include "server/explore/vectors.h"

#include <cmath>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/explore/explore_fixture.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

std::vector<float> Values(const torch::Tensor& tensor) {
  const auto flat = tensor.contiguous();
  return std::vector<float>(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
}

SaeConfig Normalised(const std::string& architecture, NormalizeActivations mode) {
  SaeConfig config = TinySaeConfig(architecture);
  config.normalize_activations = mode;
  return config;
}

TEST(VectorsTest, EncodeInPiecesGivesWhatTheSaeGivesAtOnce) {
  DeviceWorker worker({});
  for (const auto mode : {NormalizeActivations::kNone, NormalizeActivations::kLayerNorm,
                          NormalizeActivations::kConstantNormRescale}) {
    const auto sae = RandomSae(Normalised("topk", mode));
    const auto x = torch::randn({2500, 48});
    const auto result = EncodeVectors(sae, Values(x), 2500, true, CancelToken(), worker);
    ASSERT_TRUE(result.ok()) << result.status();
    const auto expected = *sae->Encode(x);
    EXPECT_EQ(result->feature_acts.n_rows(), 2500u);
    EXPECT_LT(MaxDifference(Dense(result->feature_acts), expected.acts.ToDense()), 1e-5);
    EXPECT_LT(MaxDifference(torch::tensor(result->sae_out), sae->Decode(expected).flatten()), 1e-5);
  }
}

TEST(VectorsTest, DecodeUndoesTheSparseForm) {
  DeviceWorker worker({});
  const auto sae = RandomSae(TinySaeConfig("standard"));
  const auto x = torch::randn({1500, 48});
  const auto encoded = EncodeVectors(sae, Values(x), 1500, true, CancelToken(), worker);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const auto decoded = DecodeVectors(sae, encoded->feature_acts, CancelToken(), worker);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_LT(MaxDifference(torch::tensor(*decoded), torch::tensor(encoded->sae_out)), 1e-5);
}

TEST(VectorsTest, ManyCallersGetTheirOwnRows) {
  DeviceWorker worker({});
  const auto sae = RandomSae(TinySaeConfig("topk"));
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&, c] {
      const auto x = torch::full({3, 48}, 0.1 * (c + 1)) + torch::arange(48) * 0.01 * (c - 4);
      const auto result = EncodeVectors(sae, Values(x), 3, false, CancelToken(), worker);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_LT(MaxDifference(Dense(result->feature_acts), sae->Encode(x)->acts.ToDense()), 1e-5);
      EXPECT_TRUE(result->sae_out.empty());
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(VectorsTest, NoVectorsGiveNoRows) {
  DeviceWorker worker({});
  const auto sae = RandomSae(TinySaeConfig("topk"));
  const auto result = EncodeVectors(sae, {}, 0, true, CancelToken(), worker);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->feature_acts.n_rows(), 0u);
}

TEST(VectorsTest, MistakesAreNamed) {
  DeviceWorker worker({});
  const auto sae = RandomSae(TinySaeConfig("topk"));
  std::vector<float> x(96, 0.5f);
  const auto encode_error = [&](uint64_t n) {
    const absl::Status status = EncodeVectors(sae, x, n, false, CancelToken(), worker).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(encode_error(3),
              HasSubstr("vectors holds 96 values, which is not 3 rows of d_in 48"));
  x[50] = std::nanf("");
  EXPECT_THAT(encode_error(2), HasSubstr("vector 1 is not finite: value 2 is nan"));

  SparseActivations good;
  good.n_cols = 96;
  good.Add(4, 1.0f);
  good.EndRow();
  EXPECT_TRUE(DecodeVectors(sae, good, CancelToken(), worker).ok());
  const auto decode_error = [&](const SparseActivations& acts) {
    const absl::Status status = DecodeVectors(sae, acts, CancelToken(), worker).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  SparseActivations bad = good;
  bad.n_cols = 90;
  EXPECT_THAT(decode_error(bad), HasSubstr("n_cols is 90, the SAE has d_sae 96"));
  bad = good;
  bad.indices[0] = 96;
  EXPECT_THAT(decode_error(bad), HasSubstr("feature 96 is out of range [0, 96)"));
  bad = good;
  bad.values[0] = INFINITY;
  EXPECT_THAT(decode_error(bad), HasSubstr("not finite"));
  bad = good;
  bad.row_offsets = {0, 2};
  EXPECT_THAT(decode_error(bad), HasSubstr("row_offsets end with 2, but there are 1 indices"));
  bad = good;
  bad.row_offsets = {0, 5, 1};
  EXPECT_THAT(decode_error(bad), HasSubstr("row_offsets[2] is 1, less than the one before it, 5"));
  bad = good;
  bad.row_offsets = {1, 1};
  EXPECT_THAT(decode_error(bad), HasSubstr("row_offsets must begin with 0"));
  bad = good;
  bad.values.push_back(1);
  EXPECT_THAT(decode_error(bad), HasSubstr("there are 1 indices, but 2 values"));
  bad = good;
  bad.indices = {7, 4};
  bad.values = {1, 1};
  bad.row_offsets = {0, 2};
  EXPECT_FALSE(decode_error(bad).empty());  // not ascending
}

TEST(VectorsTest, AFullQueueRefuses) {
  DeviceWorker worker({.max_waiting = 0});
  const auto sae = RandomSae(TinySaeConfig("topk"));
  EXPECT_EQ(
      EncodeVectors(sae, std::vector<float>(48), 1, false, CancelToken(), worker).status().code(),
      absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace featurescope
