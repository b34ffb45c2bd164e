// SAEs that see centred activations, and transcoders, whose output belongs to another hook than
// their input: against the same by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/explore/activations.h"
#include "server/explore/generate.h"
#include "server/explore/vectors.h"
#include "tests/explore/explore_fixture.h"
#include "tests/explore/generated_text.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

const std::vector<uint32_t> kIds = {20, 21, 22, 23, 24, 25, 26};

torch::Tensor Centred(const torch::Tensor& x) { return x - x.mean(1, true); }

ActivationsRequest Ask(const SaeRef& sae) {
  ActivationsRequest request;
  request.model = TinyModel();
  request.inputs = {Ids(kIds)};
  request.saes = {sae};
  return request;
}

SaeActivations Answer(const SaeRef& sae) {
  DeviceWorker worker{DeviceWorkerOptions()};
  auto answer = ComputeActivations(Ask(sae), worker);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer->texts[0].saes[0];
}

double ExplainedVariance(const torch::Tensor& y, const torch::Tensor& y_hat) {
  return 1 - ((y - y_hat).square().sum() / (y - y.mean(0)).square().sum()).item<double>();
}

// From the MLP's input to its output, with other widths than the SAEs of the fixture.
SaeRef RandomTranscoder(const std::string& architecture = "skip_transcoder") {
  torch::manual_seed(7);
  SaeConfig config;
  config.architecture = architecture;
  config.d_in = 48;
  config.d_sae = 96;
  config.d_out = 48;
  config.apply_b_dec_to_input = false;
  SaeParameters parameters;
  parameters.W_enc = torch::randn({48, 96}) * 0.3;
  parameters.b_enc = torch::randn({96}) * 0.1;
  parameters.W_dec = torch::randn({96, 48}) * 0.3;
  parameters.b_dec = torch::randn({48}) * 0.2;
  if (architecture == "skip_transcoder") parameters.W_skip = torch::randn({48, 48}) * 0.1;
  auto sae = Sae::Create(config, std::move(parameters));
  EXPECT_TRUE(sae.ok()) << sae.status();
  SaeRef ref = {"transcoder", *sae, *HookPoint::Parse("blocks.1.ln2.hook_normalized")};
  ref.hook_out = *HookPoint::Parse("blocks.1.hook_mlp_out");
  return ref;
}

// What the transcoder gives for rows at its hook, [n, d_out].
torch::Tensor Output(const SaeRef& ref, const torch::Tensor& x) {
  const SaeParameters& p = ref.sae->parameters();
  auto out = torch::mm(torch::relu(torch::mm(x, p.W_enc) + p.b_enc), p.W_dec) + p.b_dec;
  return p.W_skip.defined() ? out + torch::mm(x, p.W_skip.t()) : out;
}

GeneratedText Steer(const SaeRef& sae, EditOperation operation, float value, ErrorTerm error_term) {
  GenerateRequest request;
  request.model = TinyModel();
  request.prompt = Ids(kIds);
  request.max_new_tokens = 1;
  Intervention edit;
  edit.sae = sae;
  edit.feature = 7;
  edit.operation = operation;
  edit.value = value;
  edit.error_term = error_term;
  request.interventions = {edit};
  return GenerateOrDie(std::move(request));
}

// The log-probability of the first generated token when `edit` changes the value at `hook`.
double LogprobByHand(const GeneratedText& text, const HookPoint& hook,
                     const std::function<torch::Tensor(const torch::Tensor&)>& edit) {
  HookSet hooks;
  hooks.Add(hook, [&](const HookContext&, torch::Tensor& value) { value = edit(value); });
  SequenceBatch batch;
  batch.Append(kIds);
  ForwardOptions options;
  options.hooks = &hooks;
  options.logits = LogitsOf::kLastToken;
  const auto logits = TinyTransformer()->Forward(batch, options);
  EXPECT_TRUE(logits.ok()) << logits.status();
  const uint32_t token = text.tokens.at(Branch::kSteered)[0].chosen.token.id;
  return logits->log_softmax(1)[0][token].item<double>();
}

double SteeredLogprob(const GeneratedText& text) {
  return text.tokens.at(Branch::kSteered)[0].chosen.logprob;
}

TEST(CentredSaeTest, ReadsActivationsLessTheirMean) {
  for (const char* hook : {"blocks.1.hook_resid_post", "blocks.2.hook_mlp_out", "hook_embed"}) {
    SaeRef sae = RandomSaeRef("standard", hook);
    sae.center_writing_weights = true;
    const SaeActivations acts = Answer(sae);
    const auto x = Centred(ValueAt(*TinyTransformer(), kIds, sae.hook));
    const auto encoded = *sae.sae->Encode(x);
    EXPECT_LT(MaxDifference(Dense(acts.acts), encoded.acts.ToDense()), 1e-4) << hook;
    EXPECT_NEAR(acts.explained_variance, ExplainedVariance(x, sae.sae->Decode(encoded)), 1e-4);
    sae.center_writing_weights = false;
    EXPECT_GT(MaxDifference(Dense(Answer(sae).acts), Dense(acts.acts)), 1e-3) << hook;
  }
}

TEST(CentredSaeTest, SeesInsidesOfBlocksAsTheyAre) {
  for (const char* hook : {"blocks.1.attn.hook_z", "blocks.1.ln2.hook_normalized"}) {
    SaeRef sae = RandomSaeRef("standard", hook);
    const auto plain = Dense(Answer(sae).acts);
    sae.center_writing_weights = true;
    EXPECT_EQ(MaxDifference(Dense(Answer(sae).acts), plain), 0) << hook;
  }
}

TEST(CentredSaeTest, SharesAPassWithTheSameSaeUncentred) {
  const SaeRef plain = RandomSaeRef("topk", "blocks.1.hook_resid_post");
  SaeRef centred = plain;
  centred.center_writing_weights = true;
  ActivationsRequest request = Ask(plain);
  request.saes = {plain, centred};
  DeviceWorker worker{DeviceWorkerOptions()};
  const auto answer = ComputeActivations(request, worker);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(MaxDifference(Dense(answer->texts[0].saes[0].acts), Dense(Answer(plain).acts)), 0);
  EXPECT_EQ(MaxDifference(Dense(answer->texts[0].saes[1].acts), Dense(Answer(centred).acts)), 0);
}

TEST(CentredSaeTest, EditsKeepTheMeanThatItDoesNotSee) {
  SaeRef sae = RandomSaeRef("standard", "blocks.1.hook_resid_post");
  sae.center_writing_weights = true;
  for (const ErrorTerm error_term : {ErrorTerm::kKept, ErrorTerm::kDropped}) {
    const GeneratedText text = Steer(sae, EditOperation::kSet, 4, error_term);
    const double expected = LogprobByHand(text, sae.hook, [&](const torch::Tensor& value) {
      const auto x = Centred(value);
      const auto f = sae.sae->Encode(x)->acts.ToDense();
      auto changed = f.clone();
      changed.select(1, 7).fill_(4);
      const SaeParameters& p = sae.sae->parameters();
      if (error_term == ErrorTerm::kKept) return value + torch::mm(changed - f, p.W_dec);
      return value.mean(1, true) + torch::mm(changed, p.W_dec) + p.b_dec;
    });
    EXPECT_NEAR(SteeredLogprob(text), expected, 1e-4) << static_cast<int>(error_term);
    const EditProof& proof = text.finished.at(Branch::kSteered).proofs[0];
    const auto before = sae.sae->Encode(Centred(ValueAt(*TinyTransformer(), kIds, sae.hook)))
                            ->acts.ToDense()
                            .select(1, 7);
    for (size_t i = 0; i < kIds.size(); ++i) {
      EXPECT_NEAR(proof.activation_before[i], before[static_cast<int64_t>(i)].item<float>(), 1e-4);
    }
  }
}

TEST(TranscoderTest, IsMeasuredAgainstWhatItWrites) {
  for (const char* architecture : {"transcoder", "skip_transcoder"}) {
    const SaeRef sae = RandomTranscoder(architecture);
    const SaeActivations acts = Answer(sae);
    const auto x = ValueAt(*TinyTransformer(), kIds, sae.hook);
    const auto y = ValueAt(*TinyTransformer(), kIds, *sae.hook_out);
    EXPECT_LT(MaxDifference(Dense(acts.acts), sae.sae->Encode(x)->acts.ToDense()), 1e-4);
    const double expected = ExplainedVariance(y, Output(sae, x));
    EXPECT_NEAR(acts.explained_variance, expected, 1e-3 * std::abs(expected)) << architecture;
  }
}

TEST(TranscoderTest, OfUnknownOutputStillHasActivations) {
  SaeRef sae = RandomTranscoder();
  sae.hook_out.reset();
  const SaeActivations acts = Answer(sae);
  EXPECT_GT(acts.l0, 0);
  EXPECT_TRUE(std::isnan(acts.explained_variance));
}

TEST(TranscoderTest, MustWriteAfterItReads) {
  SaeRef sae = RandomTranscoder();
  sae.hook_out = *HookPoint::Parse("blocks.0.hook_mlp_out");
  const absl::Status status = CheckSaeFits(sae, *TinyTransformer());
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("before blocks.1.ln2.hook_normalized"));
}

TEST(TranscoderTest, SteersTheHookThatItWrites) {
  const SaeRef sae = RandomTranscoder();
  const SaeParameters& p = sae.sae->parameters();
  const auto x = ValueAt(*TinyTransformer(), kIds, sae.hook);
  const auto f = torch::relu(torch::mm(x, p.W_enc) + p.b_enc);
  auto changed = f.clone();
  changed.select(1, 7).fill_(6);
  for (const ErrorTerm error_term : {ErrorTerm::kKept, ErrorTerm::kDropped}) {
    const GeneratedText text = Steer(sae, EditOperation::kSet, 6, error_term);
    const double expected = LogprobByHand(text, *sae.hook_out, [&](const torch::Tensor& y) {
      if (error_term == ErrorTerm::kKept) return y + torch::mm(changed - f, p.W_dec);
      return torch::mm(changed, p.W_dec) + p.b_dec + torch::mm(x, p.W_skip.t());
    });
    EXPECT_NEAR(SteeredLogprob(text), expected, 1e-4) << static_cast<int>(error_term);
    const EditProof& proof = text.finished.at(Branch::kSteered).proofs[0];
    ASSERT_EQ(proof.positions.size(), kIds.size());
    for (size_t i = 0; i < kIds.size(); ++i) {
      EXPECT_NEAR(proof.activation_before[i], f[static_cast<int64_t>(i)][7].item<float>(), 1e-4);
      EXPECT_EQ(proof.activation_after[i], 6);
      EXPECT_GT(proof.relative_change[i], 0);
    }
  }
}

TEST(TranscoderTest, OfUnknownOutputCannotSteer) {
  SaeRef sae = RandomTranscoder();
  sae.hook_out.reset();
  Intervention edit;
  edit.sae = sae;
  const absl::Status status = Validate(edit, *TinyTransformer(), "interventions[0]");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--hook-out"));
}

TEST(TranscoderTest, VectorsComeOutAsWideAsTheOutput) {
  torch::manual_seed(3);
  SaeConfig config;
  config.architecture = "transcoder";
  config.d_in = 6;
  config.d_sae = 10;
  config.d_out = 4;
  config.apply_b_dec_to_input = false;
  SaeParameters parameters;
  parameters.W_enc = torch::randn({6, 10});
  parameters.b_enc = torch::randn({10});
  parameters.W_dec = torch::randn({10, 4});
  parameters.b_dec = torch::randn({4});
  const auto sae = *Sae::Create(config, parameters);
  DeviceWorker worker{DeviceWorkerOptions()};
  const auto x = torch::randn({5, 6});
  const auto encoded = EncodeVectors(sae, {x.data_ptr<float>(), 30}, 5, true, {}, worker);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const auto expected = sae->Decode(*sae->Encode(x));
  ASSERT_EQ(encoded->sae_out.size(), 20u);
  const auto decoded = DecodeVectors(sae, encoded->feature_acts, {}, worker);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_NEAR(encoded->sae_out[i], expected.flatten()[i].item<float>(), 1e-5);
    EXPECT_NEAR((*decoded)[i], expected.flatten()[i].item<float>(), 1e-5);
  }
}

}  // namespace
}  // namespace featurescope
