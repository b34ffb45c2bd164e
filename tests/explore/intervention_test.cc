// Interventions against forward passes edited by hand: dense arithmetic on the SAE's parameters, no
// cache, no batch.
#include "server/explore/intervention.h"

#include <cmath>
#include <functional>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/explore/generate.h"
#include "tests/explore/explore_fixture.h"
#include "tests/explore/generated_text.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char kHook[] = "blocks.1.hook_resid_post";

// The SAE written out densely.
struct DenseSae {
  explicit DenseSae(const Sae& s) : sae(s) {}

  torch::Tensor Std(const torch::Tensor& x) const { return x.std(1, true, true); }
  torch::Tensor Encode(const torch::Tensor& x) const {
    torch::Tensor rows = x;
    if (sae.config().normalize_activations == NormalizeActivations::kLayerNorm) {
      rows = (x - x.mean(1, true)) / (Std(x) + 1e-5);
    }
    const SaeParameters& p = sae.parameters();
    auto f = torch::relu(torch::mm(rows - p.b_dec, p.W_enc) + p.b_enc);
    if (sae.config().architecture == "topk") {
      const auto top = std::get<1>(f.topk(sae.config().k, 1));
      f = f * torch::zeros_like(f).scatter_(1, top, 1.0);
    }
    return f;
  }
  // With the normalisation that encoding `x` took off.
  torch::Tensor Decode(const torch::Tensor& f, const torch::Tensor& x) const {
    const auto x_hat = torch::mm(f, sae.parameters().W_dec) + sae.parameters().b_dec;
    if (sae.config().normalize_activations != NormalizeActivations::kLayerNorm) return x_hat;
    return x_hat * Std(x) + x.mean(1, true);
  }

  const Sae& sae;
};

// x -> x' of some rows.
using RowEditor = std::function<torch::Tensor(const torch::Tensor& x)>;

// Changes the code of all rows with `edit` (in place), then decodes.
RowEditor CodeEditor(const Sae& sae, ErrorTerm error_term,
                     std::function<void(torch::Tensor& f)> edit) {
  return [&sae, error_term, edit](const torch::Tensor& x) {
    const DenseSae dense(sae);
    const auto f = dense.Encode(x);
    auto changed = f.clone();
    edit(changed);
    if (error_term == ErrorTerm::kDropped) return dense.Decode(changed, x);
    return x + dense.Decode(changed, x) - dense.Decode(f, x);
  };
}

struct ByHand {
  torch::Tensor logprobs;  // [pos, d_vocab]
  torch::Tensor x;         // at the hook, the rows edited
  torch::Tensor x_edited;
};

// One pass over `ids` in which `editor` changes the rows in `positions`.
ByHand RunByHand(const std::vector<uint32_t>& ids, const std::vector<int64_t>& positions,
                 const RowEditor& editor) {
  ByHand result;
  const auto rows = torch::tensor(positions, torch::kInt64);
  HookSet hooks;
  hooks.Add(*HookPoint::Parse(kHook), [&](const HookContext&, torch::Tensor& value) {
    result.x = value.index_select(0, rows).clone();
    result.x_edited = editor(result.x);
    value = value.clone().index_copy_(0, rows, result.x_edited);
  });
  SequenceBatch batch;
  batch.Append(ids);
  ForwardOptions options;
  options.hooks = &hooks;
  options.logits = LogitsOf::kAllTokens;
  const auto logits = TinyTransformer()->Forward(batch, options);
  EXPECT_TRUE(logits.ok()) << logits.status();
  result.logprobs = logits->log_softmax(1);
  return result;
}

GenerateRequest RequestFor(std::vector<uint32_t> prompt, std::vector<Intervention> edits,
                           uint32_t max_new_tokens = 12) {
  GenerateRequest request;
  request.model = TinyModel();
  request.prompt = Ids(std::move(prompt));
  request.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 1.0;
  request.sampling.seed = 5;
  request.interventions = std::move(edits);
  return request;
}

// Prompt and generated tokens that went through the model.
std::vector<uint32_t> FedIds(const GeneratedText& text) {
  std::vector<uint32_t> ids;
  for (const Token& token : text.prompt) ids.push_back(token.id);
  for (const uint32_t id : text.ids(Branch::kSteered)) ids.push_back(id);
  ids.pop_back();
  return ids;
}

// The streamed logprobs are those of the pass by hand, token by token.
void ExpectSameLogprobs(const GeneratedText& text, const ByHand& by_hand) {
  const auto& tokens = text.tokens.at(Branch::kSteered);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto at = static_cast<int64_t>(text.prompt.size() + i) - 1;
    EXPECT_NEAR(tokens[i].chosen.logprob,
                by_hand.logprobs[at][tokens[i].chosen.token.id].item<float>(), 2e-3)
        << "token " << i;
  }
}

// The proof is what the SAE says of x and x'.
void ExpectProof(const EditProof& proof, const Sae& sae, uint32_t feature,
                 const std::vector<int64_t>& positions, const ByHand& by_hand) {
  ASSERT_EQ(proof.positions.size(), positions.size());
  const DenseSae dense(sae);
  const auto before = dense.Encode(by_hand.x).select(1, feature);
  const auto after = dense.Encode(by_hand.x_edited).select(1, feature);
  const auto relative = (by_hand.x_edited - by_hand.x).norm(2, {1}) / by_hand.x.norm(2, {1});
  for (size_t i = 0; i < positions.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    EXPECT_EQ(proof.positions[i], positions[i]);
    EXPECT_NEAR(proof.activation_before[i], before[row].item<float>(), 2e-3);
    EXPECT_NEAR(proof.activation_after[i], after[row].item<float>(), 2e-2);
    EXPECT_NEAR(proof.relative_change[i], relative[row].item<float>(), 1e-3);
  }
}

// Positions of `ids` that are not the special token 0.
std::vector<int64_t> OrdinaryPositions(const std::vector<uint32_t>& ids) {
  std::vector<int64_t> positions;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != 0) positions.push_back(static_cast<int64_t>(i));
  }
  return positions;
}

struct Case {
  std::string architecture;
  NormalizeActivations normalize;
  EditOperation operation;
  EditUnit unit;
  float value;
  ErrorTerm error_term;
};

class EveryEditTest : public ::testing::TestWithParam<Case> {};

TEST_P(EveryEditTest, IsTheForwardPassEditedByHand) {
  const Case& c = GetParam();
  SaeConfig config = TinySaeConfig(c.architecture);
  config.normalize_activations = c.normalize;
  const auto sae = RandomSae(config);
  for (const uint32_t feature : {3u, 40u, 71u}) {
    Intervention edit;
    edit.sae = {"random", sae, *HookPoint::Parse(kHook)};
    edit.feature = feature;
    edit.operation = c.operation;
    edit.unit = c.unit;
    edit.value = c.value;
    edit.unit_size =
        c.unit == EditUnit::kFeatureMax || c.unit == EditUnit::kFeatureP99 ? 2.5f : 0.0f;
    edit.error_term = c.error_term;
    const GeneratedText text = GenerateOrDie(RequestFor({0, 20, 21, 22}, {edit}));
    if (HasFailure()) return;

    const double value = edit.unit_size > 0 ? c.value * edit.unit_size : c.value;
    const RowEditor on_code = CodeEditor(*sae, c.error_term, [&](torch::Tensor& f) {
      auto column = f.select(1, feature);
      if (c.unit == EditUnit::kResidual) return;
      if (c.operation == EditOperation::kAdd) column.add_(value);
      if (c.operation == EditOperation::kSet) column.fill_(value);
      if (c.operation == EditOperation::kScale) column.mul_(value);
      if (c.operation == EditOperation::kAblateZero) column.zero_();
    });
    const RowEditor editor = [&](const torch::Tensor& x) {
      const auto row = sae->parameters().W_dec[feature];
      return c.unit == EditUnit::kResidual ? on_code(x) + c.value * row / row.norm() : on_code(x);
    };
    const auto fed = FedIds(text);
    const auto positions = OrdinaryPositions(fed);
    const ByHand by_hand = RunByHand(fed, positions, editor);
    ExpectSameLogprobs(text, by_hand);
    ExpectProof(text.finished.at(Branch::kSteered).proofs.at(0), *sae, feature, positions, by_hand);
  }
}

std::vector<Case> AllCases() {
  const struct {
    EditOperation operation;
    EditUnit unit;
    float value;
  } edits[] = {
      {EditOperation::kAdd, EditUnit::kFeature, 4.0f},
      {EditOperation::kAdd, EditUnit::kResidual, 6.0f},
      {EditOperation::kAdd, EditUnit::kFeatureMax, 1.5f},
      {EditOperation::kSet, EditUnit::kFeature, 5.0f},
      {EditOperation::kSet, EditUnit::kFeatureP99, 2.0f},
      {EditOperation::kScale, EditUnit::kFeature, -2.0f},
      {EditOperation::kAblateZero, EditUnit::kFeature, 0.0f},
  };
  std::vector<Case> cases;
  for (const char* architecture : {"standard", "topk"}) {
    for (const auto normalize : {NormalizeActivations::kNone, NormalizeActivations::kLayerNorm}) {
      for (const auto& edit : edits) {
        for (const auto error_term : {ErrorTerm::kKept, ErrorTerm::kDropped}) {
          cases.push_back(
              {architecture, normalize, edit.operation, edit.unit, edit.value, error_term});
        }
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(InterventionTest, EveryEditTest, ::testing::ValuesIn(AllCases()));

Intervention EditOf(const SaeRef& sae, uint32_t feature, EditOperation operation, float value) {
  Intervention edit;
  edit.sae = sae;
  edit.feature = feature;
  edit.operation = operation;
  edit.value = value;
  return edit;
}

TEST(InterventionTest, EditsOfOneSaeActInOrderOnOneCode) {
  const SaeRef sae = RandomSaeRef("topk", kHook);
  const GeneratedText text =
      GenerateOrDie(RequestFor({20, 21, 22}, {EditOf(sae, 7, EditOperation::kSet, 3),
                                              EditOf(sae, 30, EditOperation::kAdd, 2),
                                              EditOf(sae, 7, EditOperation::kScale, 2)}));
  const auto fed = FedIds(text);
  const auto positions = OrdinaryPositions(fed);
  const ByHand by_hand =
      RunByHand(fed, positions, CodeEditor(*sae.sae, ErrorTerm::kKept, [](torch::Tensor& f) {
                  f.select(1, 7).fill_(6);
                  f.select(1, 30).add_(2);
                }));
  ExpectSameLogprobs(text, by_hand);
  const auto& proofs = text.finished.at(Branch::kSteered).proofs;
  ASSERT_EQ(proofs.size(), 3u);
  ExpectProof(proofs[0], *sae.sae, 7, positions, by_hand);
  ExpectProof(proofs[1], *sae.sae, 30, positions, by_hand);
}

TEST(InterventionTest, DifferentSaesAtOneHookFollowEachOther) {
  const SaeRef first = RandomSaeRef("topk", kHook, 1);
  const SaeRef second = RandomSaeRef("standard", kHook, 2);
  Intervention ablation = EditOf(second, 9, EditOperation::kAblateZero, 0);
  ablation.error_term = ErrorTerm::kDropped;
  const GeneratedText text =
      GenerateOrDie(RequestFor({20, 21, 22}, {EditOf(first, 7, EditOperation::kSet, 6), ablation,
                                              EditOf(first, 8, EditOperation::kSet, 2)}));
  const auto fed = FedIds(text);
  const ByHand by_hand = RunByHand(fed, OrdinaryPositions(fed), [&](const torch::Tensor& x) {
    const auto after_first = CodeEditor(*first.sae, ErrorTerm::kKept, [](torch::Tensor& f) {
      f.select(1, 7).fill_(6);
      f.select(1, 8).fill_(2);
    })(x);
    return CodeEditor(*second.sae, ErrorTerm::kDropped,
                      [](torch::Tensor& f) { f.select(1, 9).zero_(); })(after_first);
  });
  ExpectSameLogprobs(text, by_hand);
}

TEST(InterventionTest, SettingAnInactiveFeatureOfATopKSaeLeavesTheOthersAsTheyAre) {
  const SaeRef sae = RandomSaeRef("topk", kHook);
  const std::vector<uint32_t> ids = {20, 21, 22};
  const auto code = sae.sae->Encode(ValueAt(*TinyTransformer(), ids, sae.hook))->acts.ToDense();
  uint32_t inactive = 0;
  while (code.select(1, inactive).max().item<float>() > 0) ++inactive;
  Intervention edit = EditOf(sae, inactive, EditOperation::kSet, 2.0f);
  edit.positions.scope = PositionScope::kPrompt;
  const GeneratedText text = GenerateOrDie(RequestFor(ids, {edit}));
  const EditProof& proof = text.finished.at(Branch::kSteered).proofs[0];
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(proof.activation_before[i], 0.0f);
  const ByHand by_hand = RunByHand(FedIds(text), {0, 1, 2}, [&](const torch::Tensor& x) {
    return x + 2.0 * sae.sae->parameters().W_dec[inactive];
  });
  ExpectSameLogprobs(text, by_hand);
}

TEST(InterventionTest, EditsAtAnyHookReachTheModel) {
  for (const char* hook : {"hook_embed", "blocks.0.attn.hook_z", "blocks.2.hook_mlp_out",
                           "blocks.1.ln2.hook_normalized"}) {
    const SaeRef sae = RandomSaeRef("standard", hook);
    auto request = RequestFor({20, 21, 22}, {EditOf(sae, 7, EditOperation::kAdd, 30)});
    request.with_baseline = true;
    const GeneratedText text = GenerateOrDie(request);
    EXPECT_NE(text.tokens.at(Branch::kSteered)[0].chosen.logprob,
              text.tokens.at(Branch::kBaseline)[0].chosen.logprob)
        << hook;
  }
}

TEST(InterventionTest, PositionsChooseWhatIsEdited) {
  const SaeRef sae = RandomSaeRef("topk", kHook);
  const std::vector<uint32_t> prompt = {0, 20, 21};
  const auto edited = [&](const EditPositions& positions) {
    Intervention edit = EditOf(sae, 7, EditOperation::kAdd, 1);
    edit.positions = positions;
    const GeneratedText text = GenerateOrDie(RequestFor(prompt, {edit}, 3));
    EXPECT_EQ(text.ids(Branch::kSteered).size(), 3u);
    return text.finished.at(Branch::kSteered).proofs.at(0).positions;
  };
  // 3 prompt tokens (the first is special) and 3 generated, of which the last is not fed again.
  EXPECT_THAT(edited({}), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(edited({.scope = PositionScope::kAll, .include_special_tokens = true}),
              ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(edited({.scope = PositionScope::kPrompt}), ElementsAre(1, 2));
  EXPECT_THAT(edited({.scope = PositionScope::kGenerated}), ElementsAre(3, 4));
  EXPECT_THAT(edited({.scope = PositionScope::kAll, .indices = {4, 2, 50}}), ElementsAre(2, 4));
  EXPECT_THAT(edited({.scope = PositionScope::kPrompt, .indices = {0, 2, 4}}), ElementsAre(2));
}

TEST(InterventionTest, AnEditThatCannotBeAppliedIsAnError) {
  const SaeRef sae = RandomSaeRef("topk", kHook);
  DeviceWorker worker({});
  const auto status = [&](const std::vector<uint32_t>& prompt, const Intervention& edit,
                          uint32_t max_new_tokens, std::vector<std::string> stop_strings) {
    auto request = RequestFor(prompt, {edit}, max_new_tokens);
    request.sampling.temperature = 0;
    request.stop_strings = std::move(stop_strings);
    GeneratedText text;
    return GenerateInto(request, worker, &text);
  };
  Intervention edit = EditOf(sae, 7, EditOperation::kAdd, 1);
  edit.positions.scope = PositionScope::kPrompt;
  EXPECT_EQ(status({0, 0}, edit, 5, {}).code(), absl::StatusCode::kInvalidArgument);
  edit.positions.scope = PositionScope::kGenerated;
  EXPECT_EQ(status({5}, edit, 1, {}).code(), absl::StatusCode::kInvalidArgument);
  edit.positions.scope = PositionScope::kAll;
  edit.positions.indices = {9};
  const absl::Status beyond = status({5}, edit, 5, {});
  EXPECT_EQ(beyond.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(beyond.message()),
              HasSubstr("interventions[0]: its positions match none"));

  // The text ends before the first position that would have been edited.
  edit.positions = {.scope = PositionScope::kGenerated};
  std::vector<std::string> every_character;
  for (uint32_t first = 1; first < 131; ++first) {
    GeneratedText text;
    auto request = RequestFor({first}, {}, 1);
    request.sampling.temperature = 0;
    ASSERT_TRUE(GenerateInto(request, worker, &text).ok());
    if (text.ids(Branch::kSteered)[0] == 0) continue;
    const absl::Status ended = status({first}, edit, 5, {text.text(Branch::kSteered)});
    EXPECT_EQ(ended.code(), absl::StatusCode::kFailedPrecondition) << ended;
    EXPECT_THAT(std::string(ended.message()), HasSubstr("matched no position"));
    return;
  }
  FAIL() << "every prompt ended at once";
}

TEST(InterventionTest, MistakesAreNamed) {
  const SaeRef sae = RandomSaeRef("topk", kHook);
  const auto message = [&](const Intervention& edit) {
    const absl::Status status = Validate(edit, *TinyTransformer(), "interventions[0]");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("interventions[0]"));
    return std::string(status.message());
  };
  EXPECT_THAT(message(EditOf(sae, 96, EditOperation::kAdd, 1)),
              HasSubstr("feature 96 is out of range [0, 96)"));
  EXPECT_THAT(message(EditOf(sae, 1, EditOperation::kAdd, NAN)), HasSubstr("must be finite"));
  EXPECT_THAT(message(EditOf(sae, 1, EditOperation::kAblateZero, 2)),
              HasSubstr("ABLATE_ZERO takes no value, got 2"));
  Intervention edit = EditOf(sae, 1, EditOperation::kSet, 2);
  edit.unit = EditUnit::kResidual;
  EXPECT_THAT(message(edit), HasSubstr("RESIDUAL goes with ADD only"));
  edit = EditOf(sae, 1, EditOperation::kScale, 2);
  edit.unit = EditUnit::kFeatureMax;
  EXPECT_THAT(message(edit), HasSubstr("go with ADD and SET only"));
  edit = EditOf(sae, 1, EditOperation::kSet, 2);
  edit.unit = EditUnit::kFeatureP99;
  EXPECT_THAT(message(edit), HasSubstr("the size of the unit is 0"));
  edit = EditOf(sae, 1, EditOperation::kSet, 2);
  edit.sae.hook = *HookPoint::Parse("blocks.0.mlp.hook_post");
  EXPECT_THAT(message(edit), HasSubstr("192 wide"));
  edit.sae.hook = *HookPoint::Parse("blocks.0.attn.hook_pattern");
  EXPECT_FALSE(message(edit).empty());

  Intervention dropped = EditOf(sae, 1, EditOperation::kSet, 2);
  dropped.error_term = ErrorTerm::kDropped;
  DeviceWorker worker({});
  GeneratedText text;
  const absl::Status mixed = GenerateInto(
      RequestFor({5}, {EditOf(sae, 2, EditOperation::kSet, 2), dropped}), worker, &text);
  EXPECT_EQ(mixed.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(mixed.message()), HasSubstr("all keep the error term or all drop it"));
}

TEST(InterventionTest, AFeatureWithoutDirectionCannotSteerTheResidualStream) {
  const auto config = TinySaeConfig("standard");
  SaeParameters parameters = RandomSae(config)->parameters();
  parameters.W_dec = parameters.W_dec.clone();
  parameters.W_dec[4].zero_();
  const SaeRef sae = {"flat", *Sae::Create(config, parameters), *HookPoint::Parse(kHook)};
  Intervention edit = EditOf(sae, 4, EditOperation::kAdd, 1);
  edit.unit = EditUnit::kResidual;
  DeviceWorker worker({});
  GeneratedText text;
  const absl::Status status = GenerateInto(RequestFor({5}, {edit}), worker, &text);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("feature 4"));
  EXPECT_TRUE(text.tokens.empty());
}

}  // namespace
}  // namespace featurescope
