#include "server/explore/generate.h"

#include <algorithm>
#include <cmath>
#include <latch>
#include <limits>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/explore/explore_fixture.h"
#include "tests/explore/generated_text.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

GenerateRequest RequestFor(std::vector<uint32_t> prompt, uint32_t max_new_tokens) {
  GenerateRequest request;
  request.model = TinyModel();
  request.prompt = Ids(std::move(prompt));
  request.max_new_tokens = max_new_tokens;
  return request;
}

GenerateRequest SampledRequest(std::vector<uint32_t> prompt, uint32_t max_new_tokens,
                               uint64_t seed) {
  GenerateRequest request = RequestFor(std::move(prompt), max_new_tokens);
  request.sampling.temperature = 1.0;
  request.sampling.seed = seed;
  return request;
}

Intervention Steer(uint32_t feature, float value) {
  Intervention edit;
  edit.sae = RandomSaeRef("topk", "blocks.1.hook_resid_post");
  edit.feature = feature;
  edit.value = value;
  edit.unit = EditUnit::kResidual;
  return edit;
}

// The likeliest tokens one by one, without cache or batch.
std::vector<uint32_t> GreedyByHand(std::vector<uint32_t> ids, size_t n) {
  std::vector<uint32_t> generated;
  while (generated.size() < n) {
    SequenceBatch batch;
    batch.Append(ids);
    ForwardOptions options;
    options.logits = LogitsOf::kLastToken;
    const auto logits = *TinyTransformer()->Forward(batch, options);
    ids.push_back(static_cast<uint32_t>(logits[0].argmax().item<int64_t>()));
    generated.push_back(ids.back());
    if (ids.back() == 0) break;  // EOS
  }
  return generated;
}

TEST(GenerateTest, GreedyWithoutEditsIsPlainGreedyDecoding) {
  for (const uint32_t first : {3u, 40u, 77u}) {
    auto request = RequestFor({0, first, first + 1}, 20);
    request.with_baseline = true;
    const GeneratedText text = GenerateOrDie(request);
    const auto expected = GreedyByHand({0, first, first + 1}, 20);
    EXPECT_EQ(text.ids(Branch::kSteered), expected);
    EXPECT_EQ(text.ids(Branch::kBaseline), expected);
    EXPECT_EQ(text.prompt.size(), 3u);
  }
}

TEST(GenerateTest, TheBaselineIsNotTouchedByTheEdits) {
  auto request = RequestFor({0, 40, 41}, 20);
  request.with_baseline = true;
  request.interventions = {Steer(5, 80.0f)};
  const GeneratedText text = GenerateOrDie(request);
  EXPECT_EQ(text.ids(Branch::kBaseline), GreedyByHand({0, 40, 41}, 20));
  EXPECT_NE(text.ids(Branch::kSteered), text.ids(Branch::kBaseline));
  EXPECT_TRUE(text.finished.at(Branch::kBaseline).proofs.empty());
  EXPECT_EQ(text.finished.at(Branch::kSteered).proofs.size(), 1u);
}

TEST(GenerateTest, TheSameSeedGivesTheSameTextAndAnotherSeedAnother) {
  const auto first = GenerateOrDie(SampledRequest({0, 9}, 30, 7)).ids(Branch::kSteered);
  EXPECT_EQ(GenerateOrDie(SampledRequest({0, 9}, 30, 7)).ids(Branch::kSteered), first);
  EXPECT_NE(GenerateOrDie(SampledRequest({0, 9}, 30, 8)).ids(Branch::kSteered), first);
  auto both = SampledRequest({0, 9}, 30, 7);
  both.with_baseline = true;
  const GeneratedText text = GenerateOrDie(both);
  EXPECT_EQ(text.ids(Branch::kSteered), first);
  EXPECT_EQ(text.ids(Branch::kBaseline), first);
}

TEST(GenerateTest, ATextDoesNotDependOnItsCompany) {
  const auto make_request = [](uint32_t c) {
    auto request = SampledRequest({0, c + 1, c + 2, c + 3}, 10 + 3 * c, c);
    if (c % 2 == 0) request.interventions = {Steer(c, 3.0f * static_cast<float>(c))};
    request.with_baseline = c % 3 == 0;
    return request;
  };
  constexpr uint32_t kCallers = 6;
  // Before the threads: the SAEs' random weights come from LibTorch's one global generator.
  std::vector<GenerateRequest> requests;
  for (uint32_t c = 0; c < kCallers; ++c) requests.push_back(make_request(c));
  DeviceWorker worker({});
  std::vector<std::thread> callers;
  std::vector<GeneratedText> together(kCallers);
  for (uint32_t c = 0; c < kCallers; ++c) {
    callers.emplace_back([&, c] {
      const absl::Status status = GenerateInto(requests[c], worker, &together[c]);
      EXPECT_TRUE(status.ok()) << status;
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (uint32_t c = 0; c < kCallers; ++c) {
    const GeneratedText alone = GenerateOrDie(requests[c]);
    EXPECT_EQ(together[c].ids(Branch::kSteered), alone.ids(Branch::kSteered)) << c;
    EXPECT_EQ(together[c].ids(Branch::kBaseline), alone.ids(Branch::kBaseline)) << c;
  }
}

TEST(GenerateTest, RunningTextsShareTheirSteps) {
  DeviceWorker worker({});
  std::latch started(1);
  std::latch release(1);
  std::thread hold([&] {
    EXPECT_TRUE(worker
                    .RunInteractive(CancelToken(),
                                    [&] {
                                      started.count_down();
                                      release.wait();
                                      return absl::OkStatus();
                                    })
                    .ok());
  });
  started.wait();
  std::vector<std::thread> callers;
  for (uint32_t c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      auto request = SampledRequest({c + 1}, 10, c);
      GeneratedText text;
      EXPECT_TRUE(GenerateInto(request, worker, &text).ok());
    });
  }
  while (worker.stats().waiting < 4) std::this_thread::yield();
  release.count_down();
  for (std::thread& caller : callers) caller.join();
  hold.join();
  // Ten steps for all four (fewer if all end early), after the holder's turn.
  EXPECT_LE(worker.stats().interactive_batches, 11u);
}

TEST(GenerateTest, LogprobsAreThoseOfTheModel) {
  auto request = SampledRequest({0, 12, 13}, 8, 3);
  request.top_logprobs = 5;
  const GeneratedText text = GenerateOrDie(request);
  std::vector<uint32_t> ids = {0, 12, 13};
  for (const GeneratedToken& token : text.tokens.at(Branch::kSteered)) {
    SequenceBatch batch;
    batch.Append(ids);
    ForwardOptions options;
    options.logits = LogitsOf::kLastToken;
    const auto logprobs = (*TinyTransformer()->Forward(batch, options))[0].log_softmax(0);
    EXPECT_NEAR(token.chosen.logprob, logprobs[token.chosen.token.id].item<float>(), 1e-4);
    ASSERT_EQ(token.top.size(), 5u);
    const auto [values, indices] = logprobs.topk(5);
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(token.top[static_cast<size_t>(i)].logprob, values[i].item<float>(), 1e-4);
    }
    ids.push_back(token.chosen.token.id);
  }
}

TEST(GenerateTest, StopsAfterTheTokenThatCompletesAStopString) {
  const auto plain = GenerateOrDie(SampledRequest({0, 50}, 40, 11));
  const std::string whole = plain.text(Branch::kSteered);
  ASSERT_GT(plain.ids(Branch::kSteered).size(), 8u);
  const std::string stop = whole.substr(3, 4);  // four tokens of one byte each
  auto request = SampledRequest({0, 50}, 40, 11);
  request.stop_strings = {"not in there at all", stop};
  const GeneratedText text = GenerateOrDie(request);
  EXPECT_EQ(text.finished.at(Branch::kSteered).reason, FinishReason::kStopString);
  EXPECT_EQ(text.text(Branch::kSteered), whole.substr(0, whole.find(stop) + 4));
}

TEST(GenerateTest, EndsAtTheContextsEnd) {
  // Forty tokens of the prompt leave room for 24; some seed gets there without an EOS.
  std::vector<uint32_t> prompt(40, 5);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const GeneratedText text = GenerateOrDie(SampledRequest(prompt, 100, seed));
    const FinishReason reason = text.finished.at(Branch::kSteered).reason;
    const size_t n = text.ids(Branch::kSteered).size();
    if (reason == FinishReason::kContextFull) {
      EXPECT_EQ(n, 24u);
      return;
    }
    ASSERT_EQ(reason, FinishReason::kEndOfText);
    EXPECT_EQ(text.ids(Branch::kSteered).back(), 0u);
    EXPECT_LE(n, 24u);
  }
  FAIL() << "no seed reached the end of the context";
}

TEST(GenerateTest, ACancelledRequestEndsWithinAStep) {
  DeviceWorker worker({});
  auto request = SampledRequest({0, 9}, 60, 7);
  int n_tokens = 0;
  const absl::Status status = Generate(request, worker, [&](const GenerateEvent& event) {
    if (std::holds_alternative<GeneratedToken>(event) && ++n_tokens == 2) request.cancel.Cancel();
    return true;
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  // Nothing of it is left on the device.
  EXPECT_TRUE(worker.RunInteractive(CancelToken(), [] { return absl::OkStatus(); }).ok());
  EXPECT_EQ(worker.stats().waiting, 0u);
}

TEST(GenerateTest, StopsWhenTheReceiverDoes) {
  DeviceWorker worker({});
  int n_events = 0;
  const absl::Status status = Generate(SampledRequest({0, 9}, 60, 7), worker,
                                       [&](const GenerateEvent&) { return ++n_events < 4; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(n_events, 4);
  while (worker.stats().waiting > 0) std::this_thread::yield();
}

TEST(GenerateTest, ADeadlineEndsIt) {
  auto request = SampledRequest({0, 9}, 60, 7);
  request.cancel = CancelToken(absl::Now() - absl::Seconds(1));
  GeneratedText text;
  DeviceWorker worker({});
  EXPECT_EQ(GenerateInto(request, worker, &text).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(GenerateTest, AFullQueueRefuses) {
  DeviceWorker worker({.max_waiting = 0});
  GeneratedText text;
  EXPECT_EQ(GenerateInto(RequestFor({1}, 5), worker, &text).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(GenerateTest, ACacheBeyondTheMemoryLimitIsRefused) {
  GeneratedText text;
  DeviceWorker small({.max_held_bytes = 1000});
  const absl::Status status = GenerateInto(RequestFor({1}, 5), small, &text);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the limit is 1000"));
  DeviceWorker worker({});
  EXPECT_TRUE(GenerateInto(RequestFor({1}, 5), worker, &text).ok());
  // Given back: the worker's thread may be the last to let the task go.
  EXPECT_TRUE(worker.RunInteractive(CancelToken(), [] { return absl::OkStatus(); }).ok());
  EXPECT_EQ(worker.held_bytes().used(), 0u);
}

TEST(GenerateTest, OneRequestsTroubleDoesNotTouchTheOthers) {
  // An edit that makes the model's output not finite, in one batch with an innocent text.
  auto bad = RequestFor({0, 40, 41}, 30);
  bad.interventions = {Steer(5, std::numeric_limits<float>::max())};
  bad.interventions.push_back(bad.interventions[0]);
  auto good = RequestFor({0, 40, 41}, 30);
  DeviceWorker worker({.max_batch_delay = absl::Milliseconds(200)});
  GeneratedText bad_text;
  GeneratedText good_text;
  absl::Status bad_status;
  std::thread other([&] { bad_status = GenerateInto(bad, worker, &bad_text); });
  EXPECT_TRUE(GenerateInto(good, worker, &good_text).ok());
  other.join();
  EXPECT_EQ(bad_status.code(), absl::StatusCode::kFailedPrecondition) << bad_status;
  EXPECT_EQ(good_text.ids(Branch::kSteered), GreedyByHand({0, 40, 41}, 30));
}

TEST(GenerateTest, MistakesAreNamedBeforeAnythingRuns) {
  DeviceWorker worker({});
  const auto message = [&](const GenerateRequest& request) {
    GeneratedText text;
    const absl::Status status = GenerateInto(request, worker, &text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_TRUE(text.prompt.empty());
    return std::string(status.message());
  };
  EXPECT_THAT(message(RequestFor({1}, 0)), HasSubstr("max_new_tokens is 0"));
  EXPECT_THAT(message(RequestFor({1}, 4097)), HasSubstr("max_new_tokens is 4097"));
  EXPECT_THAT(message(RequestFor({}, 5)), HasSubstr("prompt: there are no token ids"));
  EXPECT_THAT(message(RequestFor({200}, 5)), HasSubstr("token id 200"));
  EXPECT_THAT(message(RequestFor(std::vector<uint32_t>(64, 1), 5)),
              HasSubstr("leaves no room in the model's context of 64"));
  auto request = RequestFor({1}, 5);
  request.prompt = Text("");
  EXPECT_THAT(message(request), HasSubstr("prompt: the text is empty"));
  request = RequestFor({1}, 5);
  request.sampling.temperature = -1;
  EXPECT_THAT(message(request), HasSubstr("temperature -1"));
  request = RequestFor({1}, 5);
  request.top_logprobs = 21;
  EXPECT_THAT(message(request), HasSubstr("top_logprobs is 21"));
  request = RequestFor({1}, 5);
  request.stop_strings = {""};
  EXPECT_THAT(message(request), HasSubstr("a stop string is empty"));
  request.stop_strings = {std::string(1025, 'a')};
  EXPECT_THAT(message(request), HasSubstr("has 1025 bytes, at most 1024"));
  EXPECT_EQ(worker.stats().interactive_batches, 0u);
}

}  // namespace
}  // namespace featurescope
