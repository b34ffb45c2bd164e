// Every architecture against its formula, written out densely.
#include "server/sae/architectures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/match.h"

namespace featurescope {

// For the messages of failed tests.
static void PrintTo(const SaeArchitecture& architecture, std::ostream* out) {
  *out << architecture.name;
}

namespace {

using testing::HasSubstr;

constexpr int64_t kDIn = 24;
constexpr int64_t kDSae = 60;

bool Is(const SaeConfig& config, absl::string_view part) {
  return absl::StrContains(config.architecture, part);
}

SaeConfig ConfigOf(absl::string_view architecture, int64_t d_sae = kDSae) {
  SaeConfig config;
  config.architecture = std::string(architecture);
  config.d_in = kDIn;
  config.d_sae = d_sae;
  if (Is(config, "topk") || Is(config, "groupmax")) config.k = 6;
  if (Is(config, "matryoshka")) config.group_sizes = {20, d_sae - 20};
  if (IsTranscoder(architecture)) {
    config.d_out = 10;
    config.apply_b_dec_to_input = false;
  }
  return config;
}

SaeParameters ParametersOf(const SaeConfig& given, uint64_t seed = 3) {
  SaeConfig config = given;
  if (config.d_out == 0) config.d_out = config.d_in;
  torch::manual_seed(seed);
  SaeParameters parameters;
  const unsigned has = FindSaeArchitecture(config.architecture)->parameters;
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    if ((has & spec.bit) == 0) continue;
    torch::Tensor tensor = torch::randn(ParameterShape(spec.bit, config)) * 0.4;
    if (spec.bit == kThreshold && Is(config, "batchtopk")) tensor = torch::full({}, 0.7F);
    parameters.*spec.tensor = tensor;
  }
  return parameters;
}

std::shared_ptr<const Sae> Make(const SaeConfig& config, const SaeParameters& parameters) {
  const auto sae = Sae::Create(config, parameters);
  EXPECT_TRUE(sae.ok()) << sae.status();
  return sae.ok() ? *sae : nullptr;
}

torch::Tensor KeepLargest(const torch::Tensor& scores, int64_t k) {
  const auto [values, places] = scores.topk(k, -1);
  return torch::zeros_like(scores).scatter(-1, places, values.clamp_min(0));
}

// Features of x without normalisation, [n, d_sae].
torch::Tensor NaiveActs(const SaeConfig& config, const SaeParameters& p, const torch::Tensor& x) {
  const torch::Tensor in = config.apply_b_dec_to_input ? x - p.b_dec : x;
  const torch::Tensor u = torch::mm(in, p.W_enc);
  const torch::Tensor norms =
      config.rescale_acts_by_decoder_norm ? p.W_dec.norm(2, {1}) : torch::ones({config.d_sae});
  if (config.architecture == "gated") {
    return (u + p.b_gate > 0) * (u * p.r_mag.exp() + p.b_mag).relu() * norms;
  }
  const torch::Tensor hidden_pre = u + p.b_enc;
  if (Is(config, "jumprelu")) {
    return hidden_pre.relu() * (hidden_pre > p.threshold) * norms;
  }
  if (Is(config, "batchtopk")) {
    const torch::Tensor score = (hidden_pre * norms).relu();
    if (!config.whole_batch) return score * (score > p.threshold);
    return KeepLargest(score.flatten(), config.k * x.size(0)).view(score.sizes());
  }
  if (Is(config, "topk")) return KeepLargest(hidden_pre * norms, config.k);
  if (config.architecture == "groupmax") {
    const torch::Tensor groups = (hidden_pre * norms).view({x.size(0), config.k, -1});
    return KeepLargest(groups, 1).view(hidden_pre.sizes());
  }
  if (config.architecture == "tanh_relu") return hidden_pre.relu().tanh() * norms;
  return hidden_pre.relu() * norms;
}

torch::Tensor NaiveOut(const SaeConfig& config, const SaeParameters& p, const torch::Tensor& x,
                       const torch::Tensor& acts) {
  const torch::Tensor f = config.rescale_acts_by_decoder_norm ? acts / p.W_dec.norm(2, {1}) : acts;
  torch::Tensor out = torch::mm(f, p.W_dec) + p.b_dec;
  if (p.W_skip.defined()) out = out + torch::mm(x, p.W_skip.t());
  return out;
}

void ExpectClose(const torch::Tensor& actual, const torch::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_LE((actual - expected).abs().max().item<double>(),
            1e-5 * std::max(1.0, expected.abs().max().item<double>()));
}

void ExpectFollowsFormula(const SaeConfig& config) {
  SCOPED_TRACE(config.architecture + (config.whole_batch ? ", whole batch" : "") +
               (config.rescale_acts_by_decoder_norm ? ", rescaled" : ""));
  const SaeParameters p = ParametersOf(config);
  const std::shared_ptr<const Sae> sae = Make(config, p);
  ASSERT_NE(sae, nullptr);
  const torch::Tensor x = torch::randn({37, kDIn});
  const torch::Tensor acts = NaiveActs(config, p, x);
  const EncodedRows encoded = sae->Encode(x).value();
  ASSERT_TRUE(encoded.acts.Validate().ok());
  EXPECT_GT(encoded.acts.nnz(), 0);
  EXPECT_LT(encoded.acts.nnz(), acts.numel());
  ExpectClose(encoded.acts.ToDense(), acts);
  ExpectClose(sae->Decode(encoded), NaiveOut(config, p, x, acts));
  const torch::Tensor some = sae->EncodeFeatures(x, {7, 59, 0}).value();
  ExpectClose(some, acts.index_select(1, torch::tensor({7, 59, 0}, torch::kInt64)));
}

class ArchitectureTest : public testing::TestWithParam<SaeArchitecture> {};

TEST_P(ArchitectureTest, FollowsItsFormula) {
  SaeConfig config = ConfigOf(GetParam().name);
  ExpectFollowsFormula(config);
  config.rescale_acts_by_decoder_norm = true;
  ExpectFollowsFormula(config);
  if (!IsTranscoder(config.architecture)) {
    config.apply_b_dec_to_input = false;
    ExpectFollowsFormula(config);
  }
}

TEST_P(ArchitectureTest, ManyRowsEncodeAsFewDo) {
  // So wide that rows go through in several pieces.
  const SaeConfig config = ConfigOf(GetParam().name, 60'000);
  const std::shared_ptr<const Sae> sae = Make(config, ParametersOf(config));
  const torch::Tensor x = torch::randn({150, kDIn});
  const SparseRows whole = sae->Encode(x).value().acts;
  ASSERT_TRUE(whole.Validate().ok());
  for (const int64_t row : {0, 63, 64, 149}) {
    const SparseRows one = sae->Encode(x[row]).value().acts;
    const SparseRows same = whole.Slice(row, row + 1);
    ASSERT_TRUE(torch::equal(one.indices, same.indices)) << row;
    EXPECT_TRUE(torch::allclose(one.values, same.values, 1e-4, 1e-4));
  }
}

TEST_P(ArchitectureTest, AFeaturesDirectionIsWhatItsActivationAdds) {
  SaeConfig config = ConfigOf(GetParam().name);
  for (const bool rescale : {false, true}) {
    config.rescale_acts_by_decoder_norm = rescale;
    const std::shared_ptr<const Sae> sae = Make(config, ParametersOf(config));
    SparseRows acts;
    acts.row_offsets = torch::tensor({0, 1}, torch::kInt64);
    acts.indices = torch::tensor({11}, torch::kInt32);
    acts.values = torch::tensor({2.0F});
    acts.n_cols = kDSae;
    ExpectClose(sae->Decode(acts)[0] - sae->parameters().b_dec, 2 * sae->FeatureDirection(11));
  }
}

TEST_P(ArchitectureTest, NoRowsGiveNoRows) {
  SaeConfig config = ConfigOf(GetParam().name);
  const std::shared_ptr<const Sae> sae = Make(config, ParametersOf(config));
  const EncodedRows encoded = sae->Encode(torch::empty({0, kDIn})).value();
  EXPECT_EQ(encoded.acts.n_rows(), 0);
  EXPECT_EQ(sae->Decode(encoded).size(0), 0);
}

TEST_P(ArchitectureTest, ADeadDecoderRowNeitherFiresNorGivesNaN) {
  SaeConfig config = ConfigOf(GetParam().name);
  config.rescale_acts_by_decoder_norm = true;
  SaeParameters p = ParametersOf(config);
  p.W_dec[11].zero_();
  const std::shared_ptr<const Sae> sae = Make(config, p);
  const EncodedRows encoded = sae->Encode(torch::randn({40, kDIn})).value();
  EXPECT_FALSE((encoded.acts.indices == 11).any().item<bool>());
  EXPECT_TRUE(encoded.acts.Validate().ok());
  EXPECT_TRUE(torch::isfinite(sae->Decode(encoded)).all().item<bool>());
  EXPECT_TRUE(torch::equal(sae->FeatureDirection(11), torch::zeros({sae->config().d_out})));
}

TEST_P(ArchitectureTest, MissingAndForeignParametersAreNamed) {
  const SaeConfig config = ConfigOf(GetParam().name);
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    SaeParameters p = ParametersOf(config);
    if ((GetParam().parameters & spec.bit) != 0) {
      p.*spec.tensor = torch::Tensor();
      EXPECT_THAT(std::string(Sae::Create(config, p).status().message()),
                  HasSubstr(absl::StrCat(spec.name, " is missing")));
      p = ParametersOf(config);
      p.*spec.tensor = torch::full_like(p.*spec.tensor, NAN);
      EXPECT_EQ(Sae::Create(config, p).status().message(),
                absl::StrCat(spec.name, " has values that are not finite"));
    } else {
      p.*spec.tensor = torch::ones({kDSae});
      EXPECT_EQ(Sae::Create(config, p).status().message(),
                absl::StrCat(spec.name, " is given, but a ", GetParam().name,
                             " SAE has no such parameter"));
    }
  }
}

TEST_P(ArchitectureTest, AGpuGivesTheSame) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  SaeConfig config = ConfigOf(GetParam().name);
  for (const bool rescale : {false, true}) {
    config.rescale_acts_by_decoder_norm = rescale;
    const SaeParameters p = ParametersOf(config);
    SaeParameters on_gpu = p;
    for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
      torch::Tensor& tensor = on_gpu.*spec.tensor;
      if (tensor.defined()) tensor = tensor.cuda();
    }
    const torch::Tensor x = torch::randn({37, kDIn});
    const EncodedRows expected = Make(config, p)->Encode(x).value();
    const std::shared_ptr<const Sae> sae = Make(config, on_gpu);
    const EncodedRows actual = sae->Encode(x).value();
    ASSERT_TRUE(actual.acts.Validate().ok());
    EXPECT_TRUE(torch::allclose(actual.acts.ToDense().cpu(), expected.acts.ToDense(), 1e-4, 1e-4));
    EXPECT_TRUE(
        torch::allclose(sae->Decode(actual).cpu(), Make(config, p)->Decode(expected), 1e-4, 1e-4));
    EXPECT_TRUE(torch::allclose(sae->EncodeFeatures(x, {7, 0}).value().cpu(),
                                Make(config, p)->EncodeFeatures(x, {7, 0}).value(), 1e-4, 1e-4));
  }
}

TEST_P(ArchitectureTest, CountsTheBytesOfItsParameters) {
  const SaeConfig config = ConfigOf(GetParam().name);
  const SaeParameters p = ParametersOf(config);
  uint64_t elements = 0;
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    if ((p.*spec.tensor).defined()) elements += (p.*spec.tensor).numel();
  }
  EXPECT_EQ(Make(config, p)->memory_bytes(), 4 * elements);
}

INSTANTIATE_TEST_SUITE_P(All, ArchitectureTest, testing::ValuesIn(kSaeArchitectures),
                         [](const testing::TestParamInfo<SaeArchitecture>& info) {
                           return std::string(info.param.name);
                         });

TEST(BatchTopKTest, AWholeBatchKeepsTheLargestOfAllItsRows) {
  for (const char* name : {"batchtopk", "matryoshka_batchtopk"}) {
    SaeConfig config = ConfigOf(name);
    config.whole_batch = true;
    ExpectFollowsFormula(config);
    config.rescale_acts_by_decoder_norm = true;
    ExpectFollowsFormula(config);
  }
}

TEST(BatchTopKTest, AWholeBatchIsOneThoughItGoesThroughInPieces) {
  SaeConfig config = ConfigOf("batchtopk", 60'000);
  config.whole_batch = true;
  const SaeParameters p = ParametersOf(config);
  const torch::Tensor x = torch::randn({300, kDIn});
  const SparseRows acts = Make(config, p)->Encode(x).value().acts;
  ASSERT_TRUE(acts.Validate().ok());
  EXPECT_EQ(acts.nnz(), config.k * 300);
  const torch::Tensor naive = NaiveActs(config, p, x);
  EXPECT_NEAR(acts.values.min().item<double>(), naive.masked_select(naive > 0).min().item<double>(),
              1e-4);
  EXPECT_NEAR(acts.values.sum().item<double>(), naive.sum().item<double>(),
              1e-5 * naive.sum().item<double>());
}

TEST(BatchTopKTest, EqualScoresDoNotExceedTheBudget) {
  SaeConfig config = ConfigOf("batchtopk");
  config.whole_batch = true;
  config.k = 3;
  SaeParameters p = ParametersOf(config);
  p.W_enc.zero_();
  p.b_enc.fill_(1);
  const SparseRows acts = Make(config, p)->Encode(torch::randn({8, kDIn})).value().acts;
  EXPECT_EQ(acts.nnz(), 3 * 8);
  EXPECT_TRUE(acts.Validate().ok());
}

TEST(BatchTopKTest, AThresholdThatWasNeverTrackedIsRefused) {
  const SaeConfig config = ConfigOf("batchtopk");
  SaeParameters p = ParametersOf(config);
  for (const float threshold : {0.0F, -1.0F}) {
    p.threshold = torch::full({}, threshold);
    EXPECT_THAT(std::string(Sae::Create(config, p).status().message()),
                HasSubstr("as training leaves it that has not tracked one yet"));
  }
}

TEST(BatchTopKTest, GroupsAddUpToTheWidth) {
  SaeConfig config = ConfigOf("matryoshka_batchtopk");
  const SaeParameters p = ParametersOf(config);
  for (const std::vector<int64_t>& groups :
       {std::vector<int64_t>{}, {20, 39}, {61}, {60, 0}, {-1, 61}}) {
    config.group_sizes = groups;
    EXPECT_THAT(std::string(Sae::Create(config, p).status().message()), HasSubstr("group_sizes"));
  }
  config = ConfigOf("batchtopk");
  config.group_sizes = {60};
  EXPECT_FALSE(Sae::Create(config, p).ok());
}

TEST(JumpReluTest, WhatEqualsItsThresholdDoesNotFire) {
  SaeConfig config = ConfigOf("jumprelu");
  config.apply_b_dec_to_input = false;
  SaeParameters p = ParametersOf(config);
  // Sums that are exact in float32, at, below and above thresholds of every sign.
  p.W_enc.zero_();
  p.b_enc = torch::arange(kDSae).to(torch::kFloat32) / 8 - 3;
  p.threshold = p.b_enc.clone();
  p.threshold.slice(0, 20, 40) =
      torch::nextafter(p.b_enc.slice(0, 20, 40), torch::full({}, -INFINITY));
  p.threshold.slice(0, 40, 60) =
      torch::nextafter(p.b_enc.slice(0, 40, 60), torch::full({}, INFINITY));
  const torch::Tensor acts =
      Make(config, p)->Encode(torch::zeros({3, kDIn})).value().acts.ToDense();
  const torch::Tensor fires = (p.b_enc > 0) * (p.b_enc > p.threshold);
  EXPECT_EQ(fires.sum().item<int64_t>(), 15);  // of 20 to 40 those above zero
  EXPECT_TRUE(torch::equal(acts[0], p.b_enc * fires));
  EXPECT_TRUE(torch::equal(acts[0], acts[2]));
}

TEST(TranscoderTest, TheDecoderAloneAddsNoSkip) {
  const SaeConfig config = ConfigOf("skip_transcoder");
  const SaeParameters p = ParametersOf(config);
  const std::shared_ptr<const Sae> sae = Make(config, p);
  const torch::Tensor x = torch::randn({5, kDIn});
  const EncodedRows encoded = sae->Encode(x).value();
  ExpectClose(sae->Decode(encoded) - sae->Decode(encoded.acts), torch::mm(x, p.W_skip.t()));
  EXPECT_EQ(sae->Decode(encoded).size(1), 10);
}

TEST(TranscoderTest, TheInputsNormalisationIsNotUndone) {
  SaeConfig config = ConfigOf("transcoder");
  config.normalize_activations = NormalizeActivations::kLayerNorm;
  const SaeParameters p = ParametersOf(config);
  const std::shared_ptr<const Sae> sae = Make(config, p);
  const torch::Tensor x = torch::randn({5, kDIn}) * 9 + 4;
  const EncodedRows encoded = sae->Encode(x).value();
  ExpectClose(sae->Decode(encoded), sae->Decode(encoded.acts));
  const torch::Tensor normed = (x - x.mean(1, true)) / (x.std(1, true, true) + 1e-5);
  ExpectClose(encoded.acts.ToDense(), NaiveActs(config, p, normed));
}

TEST(SaeConfigTest, SettingsThatContradictEachOtherAreRefused) {
  const auto refusal = [](const char* name, const std::function<void(SaeConfig&)>& change) {
    SaeConfig config = ConfigOf(name);
    change(config);
    return std::string(Sae::Create(config, ParametersOf(ConfigOf(name))).status().message());
  };
  EXPECT_THAT(refusal("standard", [](SaeConfig& c) { c.d_out = 10; }),
              HasSubstr("d_out is 10 and d_in 24, but a standard SAE is no transcoder"));
  EXPECT_THAT(refusal("transcoder", [](SaeConfig& c) { c.apply_b_dec_to_input = true; }),
              HasSubstr("b_dec belongs to its output"));
  EXPECT_THAT(refusal("transcoder", [](SaeConfig& c) { c.reshape_hook_z = true; }),
              HasSubstr("hook_z"));
  EXPECT_THAT(refusal("topk", [](SaeConfig& c) { c.whole_batch = true; }),
              HasSubstr("does not select over a whole batch"));
  EXPECT_THAT(refusal("topk", [](SaeConfig& c) { c.k = 61; }),
              HasSubstr("k is 61, out of range [1, 60]"));
  EXPECT_THAT(refusal("groupmax", [](SaeConfig& c) { c.k = 7; }), HasSubstr("divisor"));
  EXPECT_THAT(refusal("standard", [](SaeConfig& c) { c.d_sae = 0; }),
              HasSubstr("d_sae is 0, out of range"));
  EXPECT_THAT(refusal("standard", [](SaeConfig& c) { c.d_in = int64_t{1} << 40; }),
              HasSubstr("d_in is"));
}

}  // namespace
}  // namespace featurescope
