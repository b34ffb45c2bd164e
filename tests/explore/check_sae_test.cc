// SAEs made to fit a model's activations in one way, bound in another: the check names what
// differs.
#include "server/explore/check_sae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "server/formats/safetensors.h"
#include "server/tensor/weights.h"
#include "tests/base/temp_dir.h"
#include "tests/explore/explore_fixture.h"

namespace featurescope {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int64_t kWidth = 48;
constexpr char kHook[] = "blocks.1.hook_resid_post";

std::vector<std::vector<uint32_t>> Texts() {
  std::vector<std::vector<uint32_t>> texts(12);
  uint32_t state = 1;
  for (auto& text : texts) {
    for (int i = 0; i < 40; ++i) {
      state = state * 1664525 + 1013904223;
      text.push_back(1 + (state >> 8) % 130);
    }
  }
  return texts;
}

// The model's activations at `hook`, BOS left out, [n, width].
torch::Tensor Activations(const Transformer& model, const std::string& hook, bool with_bos = true) {
  std::vector<torch::Tensor> rows;
  for (const auto& text : Texts()) {
    std::vector<uint32_t> ids;
    if (with_bos) ids.push_back(0);
    ids.insert(ids.end(), text.begin(), text.end());
    rows.push_back(ValueAt(model, ids, *HookPoint::Parse(hook)).slice(0, with_bos ? 1 : 0));
  }
  return torch::cat(rows);
}

// An SAE whose features are the principal directions of `x` and their opposites: it reconstructs
// `x` well with few features, by a threshold that suits the scale of `x`.
std::shared_ptr<const Sae> FittedTo(const torch::Tensor& x) {
  const auto mean = x.mean(0);
  const auto decomposed = (x - mean).svd();
  const auto& strengths = std::get<1>(decomposed);
  const int64_t n = (strengths > 1e-3 * strengths[0]).sum().item<int64_t>();
  const auto directions = std::get<2>(decomposed).narrow(1, 0, n);  // [d, n], columns
  const auto W_dec = torch::cat({directions.t(), -directions.t()}).contiguous();
  const auto pre = torch::mm(x - mean, W_dec.t());
  // So that a token has 16 features.
  const auto kept = std::get<0>(pre.flatten().topk(16 * x.size(0)));
  SaeConfig config;
  config.architecture = "jumprelu";
  config.d_in = x.size(1);
  config.d_sae = 2 * n;
  SaeParameters parameters;
  parameters.W_enc = W_dec.t().contiguous();
  parameters.b_enc = torch::zeros({config.d_sae});
  parameters.W_dec = W_dec;
  parameters.b_dec = mean;
  parameters.threshold = torch::full({config.d_sae}, kept.min().item<float>());
  auto sae = Sae::Create(config, std::move(parameters));
  EXPECT_TRUE(sae.ok()) << sae.status();
  return *sae;
}

CheckSaeRequest Request(std::shared_ptr<const Sae> sae, const std::string& hook = kHook) {
  CheckSaeRequest request;
  request.model = TinyModel();
  request.sae = {"sae", std::move(sae), *HookPoint::Parse(hook)};
  request.texts = Texts();
  request.bos = 0;
  request.with_bos = true;
  return request;
}

SaeCheck Check(const CheckSaeRequest& request) {
  DeviceWorker worker{DeviceWorkerOptions()};
  auto check = CheckSae(request, worker);
  EXPECT_TRUE(check.ok()) << check.status();
  return check.ok() ? *check : SaeCheck();
}

std::string Best(const SaeCheck& check) {
  return check.better.empty() ? "" : check.better.front().change;
}

std::string Explain(const SaeCheck& check) {
  std::string text = absl::StrCat("EV ", check.as_bound.explained_variance, " L0 ",
                                  check.as_bound.l0, " norm ", check.as_bound.norm_ratio, "\n");
  for (const auto& fit : check.better) {
    absl::StrAppend(&text, fit.explained_variance, " ", fit.change, "\n");
  }
  for (const auto& finding : check.findings) absl::StrAppend(&text, "- ", finding, "\n");
  return text;
}

TEST(CheckSaeTest, AnSaeWhereItBelongsFits) {
  const SaeCheck check = Check(Request(FittedTo(Activations(*TinyTransformer(), kHook))));
  EXPECT_EQ(check.verdict, SaeVerdict::kFits) << Explain(check);
  EXPECT_TRUE(check.better.empty()) << Explain(check);
  EXPECT_GT(check.as_bound.explained_variance, 0.6);
  EXPECT_NEAR(check.as_bound.l0, 16, 0.5);
  EXPECT_EQ(check.n_tokens, 480u);
  EXPECT_GT(check.n_tried, 4u);
}

TEST(CheckSaeTest, TheNumbersAreThoseOfTheDefinition) {
  const auto x = Activations(*TinyTransformer(), kHook);
  const auto sae = RandomSae(TinySaeConfig("topk"));
  const SaeCheck check = Check(Request(sae));
  const auto encoded = *sae->Encode(x);
  const auto x_hat = sae->Decode(encoded);
  const auto mean = [](const torch::Tensor& t) { return t.mean().item<double>(); };
  EXPECT_NEAR(check.as_bound.explained_variance,
              1 - ((x - x_hat).square().sum() / (x - x.mean(0)).square().sum()).item<double>(),
              1e-4);
  EXPECT_NEAR(check.as_bound.norm_ratio, mean(x_hat.norm(2, {1}) / x.norm(2, {1})), 1e-4);
  EXPECT_NEAR(check.as_bound.cosine, mean(torch::cosine_similarity(x, x_hat)), 1e-4);
  EXPECT_NEAR(check.as_bound.l0,
              static_cast<double>(encoded.acts.nnz()) / static_cast<double>(x.size(0)), 1e-6);
}

TEST(CheckSaeTest, AnotherLayerIsNamed) {
  const auto sae = FittedTo(Activations(*TinyTransformer(), "blocks.0.hook_resid_post"));
  const SaeCheck check = Check(Request(sae, "blocks.2.hook_resid_post"));
  EXPECT_NE(check.verdict, SaeVerdict::kFits) << Explain(check);
  EXPECT_THAT(Best(check), HasSubstr("--hook blocks.0.hook_resid_post")) << Explain(check);
  EXPECT_THAT(check.findings, Contains(HasSubstr("likely cause")));
}

TEST(CheckSaeTest, AnotherHookOfTheSameLayerIsNamed) {
  const auto sae = FittedTo(Activations(*TinyTransformer(), "blocks.1.hook_mlp_out"));
  const SaeCheck check = Check(Request(sae));
  EXPECT_THAT(Best(check), HasSubstr("--hook blocks.1.hook_mlp_out")) << Explain(check);
}

TEST(CheckSaeTest, AScaleThatIsNotFoldedInIsNamed) {
  for (const char* hook : {"hook_embed", "blocks.2.hook_resid_post"}) {
    const auto x = Activations(*TinyTransformer(), hook);
    const double norm = x.norm(2, {1}).mean().item<double>();
    const double scale = std::sqrt(static_cast<double>(kWidth)) / norm;
    ASSERT_GT(std::abs(std::log(scale)), 0.15) << hook << ": the scale makes no difference";
    const SaeCheck check = Check(Request(FittedTo(x * scale), hook));
    EXPECT_NE(check.verdict, SaeVerdict::kFits) << hook << " " << scale << "\n" << Explain(check);
    EXPECT_THAT(check.findings, Contains(HasSubstr("--norm-scaling-factor")))
        << hook << " " << scale << "\n"
        << Explain(check);
  }
}

TEST(CheckSaeTest, AMissingNormalisationIsNamed) {
  const auto x = Activations(*TinyTransformer(), "blocks.2.hook_resid_post");
  const auto normalised = (x - x.mean(1, true)) / (x.std(1, true, true) + 1e-5);
  const SaeCheck check = Check(Request(FittedTo(normalised), "blocks.2.hook_resid_post"));
  EXPECT_THAT(Best(check), HasSubstr("layer_norm")) << Explain(check);
}

TEST(CheckSaeTest, AThresholdThatIsMissingIsNoticed) {
  const auto sae = FittedTo(Activations(*TinyTransformer(), kHook));
  SaeConfig config = sae->config();
  config.architecture = "standard";
  SaeParameters parameters = sae->parameters();
  parameters.threshold = torch::Tensor();
  auto relu = Sae::Create(config, parameters);
  ASSERT_TRUE(relu.ok()) << relu.status();
  const SaeCheck check = Check(Request(*relu));
  EXPECT_EQ(check.verdict, SaeVerdict::kDoubtful) << Explain(check);
  EXPECT_THAT(check.findings, Contains(HasSubstr("not sparse"))) << Explain(check);
}

TEST(CheckSaeTest, AnSaeOfAnotherModelFitsNowhere) {
  CheckSaeRequest request = Request(RandomSae(TinySaeConfig("topk")));
  request.trained_on = "gpt2-xl";
  const SaeCheck check = Check(request);
  EXPECT_EQ(check.verdict, SaeVerdict::kDoesNotFit) << Explain(check);
  EXPECT_THAT(check.findings, Contains(HasSubstr("gpt2-xl"))) << Explain(check);
}

// The golden model with a constant on every coordinate of its embeddings: centring then matters.
std::shared_ptr<const Transformer> ModelWithLargeMean(const TempDir& dir) {
  const std::string from = std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/gpt2/";
  const SafetensorsFile file = *SafetensorsFile::Open(from + "model.safetensors");
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& entry : file.entries()) {
    auto tensor = *LoadTensor(file, entry.name, entry.shape, torch::kFloat32, torch::kCPU);
    // As large a spread as a constant, from token to token.
    if (absl::StrContains(entry.name, "wte.weight")) {
      torch::manual_seed(5);
      tensor = tensor + 3 * torch::randn({tensor.size(0), 1});
    }
    tensors.emplace_back(entry.name, tensor);
  }
  EXPECT_TRUE(SaveTensors(dir / "model.safetensors", tensors).ok());
  std::filesystem::copy_file(from + "config.json", dir / "config.json");
  auto model = Transformer::Load(dir.path(), {});
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

TEST(CheckSaeTest, CentredWritingWeightsAreNamed) {
  const TempDir dir;
  const auto model = ModelWithLargeMean(dir);
  const auto x = Activations(*model, "blocks.0.hook_resid_post");
  CheckSaeRequest request = Request(FittedTo(x - x.mean(1, true)), "blocks.0.hook_resid_post");
  request.model.model = model;
  const SaeCheck check = Check(request);
  EXPECT_THAT(Best(check), HasSubstr("--center-writing-weights")) << Explain(check);

  request.sae.center_writing_weights = true;
  EXPECT_EQ(Check(request).verdict, SaeVerdict::kFits);

  request.sae.sae = FittedTo(x);
  EXPECT_THAT(check.findings, Contains(HasSubstr("likely cause")));
  EXPECT_THAT(Best(Check(request)), HasSubstr("--no-center-writing-weights"));
}

TEST(CheckSaeTest, WhatCannotBeCheckedIsRefused) {
  DeviceWorker worker{DeviceWorkerOptions()};
  CheckSaeRequest request = Request(RandomSae(TinySaeConfig("topk")));
  request.texts = {{1, 2, 3}};
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSae(request, worker).status()));
  request.texts = {std::vector<uint32_t>(64, 1)};
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSae(request, worker).status())) << "no room for BOS";
  request.texts = {std::vector<uint32_t>(40, 131)};
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSae(request, worker).status()));
  request.texts = Texts();
  request.cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(CheckSae(request, worker).status()));
}

}  // namespace
}  // namespace featurescope
