// Really trained models against numbers that other programs computed from the same weights.
#include <cmath>
#include <fstream>
#include <iterator>

#include "absl/strings/str_replace.h"
#include "server/model/sampling.h"
#include "tests/model/support.h"

namespace featurescope {
namespace {

// -log p of each token after the first.
std::vector<double> TokenNll(const Transformer& model, const std::vector<uint32_t>& ids) {
  const torch::Tensor logits = MustForward(model, BatchOf({ids}), LogitsOf::kAllTokens);
  const torch::Tensor logprobs = torch::log_softmax(logits, -1);
  std::vector<double> nll;
  for (size_t i = 1; i < ids.size(); ++i) {
    nll.push_back(-logprobs[static_cast<int64_t>(i) - 1][ids[i]].item<double>());
  }
  return nll;
}

std::vector<uint32_t> Greedy(const Transformer& model, const std::vector<uint32_t>& prompt,
                             int n_tokens) {
  const auto cache = model.NewCache();
  Sampler sampler({});
  std::vector<uint32_t> generated;
  std::vector<uint32_t> next = prompt;
  while (static_cast<int>(generated.size()) < n_tokens) {
    SequenceBatch batch;
    batch.Append(next, cache.get());
    const torch::Tensor logits = MustForward(model, batch, LogitsOf::kLastToken);
    generated.push_back(sampler.Next(logits[0], 0).chosen.token);
    next = {generated.back()};
  }
  return generated;
}

// The pieces of a SentencePiece tokenizer.model, by id: of the file's Protobuf fields only the
// first, a message whose first field is the text, all lengths below 128 bytes. A whole tokenizer
// is not needed to read what was generated.
std::vector<std::string> SentencePieces(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  std::vector<std::string> pieces;
  constexpr char kFirstFieldBytes = 0x0a;  // field 1, length-delimited
  for (size_t at = 0; at + 4 < bytes.size() && bytes[at] == kFirstFieldBytes;
       at += 2 + static_cast<size_t>(bytes[at + 1])) {
    EXPECT_EQ(bytes[at + 2], kFirstFieldBytes);
    pieces.push_back(absl::StrReplaceAll(bytes.substr(at + 4, static_cast<size_t>(bytes[at + 3])),
                                         {{"\u2581", " "}, {"<0x0A>", "\n"}}));
  }
  return pieces;
}

TEST(DemoModelTest, AgreesWithASeparateImplementation) {
  const auto model = LoadOrDie(DemoModel());
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->n_parameters(), 6901760u);
  const nlohmann::json expected = ReadJson(DemoModel() + "/expected.json");
  ASSERT_EQ(expected.size(), 6u);
  for (const nlohmann::json& prompt : expected) {
    const auto ids = prompt["ids"].get<std::vector<uint32_t>>();
    const auto nll = prompt["nll"].get<std::vector<double>>();
    const std::vector<double> got = TokenNll(*model, ids);
    ASSERT_EQ(got.size(), nll.size());
    for (size_t i = 0; i < nll.size(); ++i) EXPECT_NEAR(got[i], nll[i], 1e-3) << i;

    const torch::Tensor last = MustForward(*model, BatchOf({ids}), LogitsOf::kLastToken)[0];
    const auto [values, tokens] = last.topk(5);
    for (int64_t i = 0; i < 5; ++i) {
      const nlohmann::json& want = prompt["next_top5"][static_cast<size_t>(i)];
      EXPECT_EQ(tokens[i].item<int64_t>(), want[0].get<int64_t>());
      EXPECT_NEAR(values[i].item<float>(), want[1].get<float>(), 1e-3);
    }
    EXPECT_EQ(Greedy(*model, ids, 24), prompt["greedy_24"].get<std::vector<uint32_t>>())
        << prompt["text"];
  }
}

TEST(Stories260KTest, AgreesWithLlama2C) {
  const std::string directory = SharedData("stories260K");
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  const auto model = LoadOrDie(directory);
  ASSERT_NE(model, nullptr);
  const nlohmann::json expected = ReadJson(directory + "/expected.json");
  for (const nlohmann::json& story : expected["stories"]) {
    const auto nll = story["nll"].get<std::vector<double>>();
    const std::vector<double> got = TokenNll(*model, story["ids"].get<std::vector<uint32_t>>());
    ASSERT_EQ(got.size(), nll.size());
    for (size_t i = 0; i < nll.size(); ++i) {
      EXPECT_NEAR(got[i], nll[i], 1e-3) << "story " << story["text_index"] << " token " << i;
    }
  }
  const nlohmann::json& greedy = expected["greedy_from_bos"];
  const std::vector<std::string> pieces = SentencePieces(directory + "/tokenizer.model");
  ASSERT_EQ(pieces.size(), 512u);
  std::string text;
  for (uint32_t id : Greedy(*model, {1}, greedy["max_total_tokens"].get<int>())) {
    text += pieces[id];
  }
  EXPECT_EQ(text, " " + greedy["text"].get<std::string>());
}

}  // namespace
}  // namespace featurescope
