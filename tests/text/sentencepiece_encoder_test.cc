// Our encoders against libsentencepiece, on models and texts made at random and on real ones.
#include "server/text/sentencepiece_encoder.h"

#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/formats/utf8.h"
#include "server/text/tokenizer.h"
#include "tests/formats/test_files.h"
#include "tests/text/round_trip.h"
#include "tests/text/sentencepiece_library.h"
#include "tests/text/sentencepiece_model_bytes.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using Ids = std::vector<uint32_t>;

std::unique_ptr<SentencePieceLibrary> LibraryOf(const std::string& model) {
  std::string error;
  auto library = SentencePieceLibrary::Load(model + KeepSpacesField(), &error);
  EXPECT_NE(library, nullptr) << error;
  return library;
}

Ids LibraryIds(const SentencePieceLibrary& library, const std::string& text) {
  Ids ids;
  std::string error;
  EXPECT_TRUE(library.Encode(text, &ids, &error)) << error;
  return ids;
}

std::unique_ptr<const SentencePieceEncoder> EncoderOf(const std::string& model) {
  auto read = ReadSentencePieceModel(model, "tokenizer.model");
  EXPECT_TRUE(read.ok()) << read.status();
  return SentencePieceEncoder::Create(*std::move(read));
}

Ids Encode(const SentencePieceEncoder& encoder, const std::string& text) {
  Ids ids;
  encoder.Encode(text, &ids);
  return ids;
}

std::string RandomText(const std::vector<std::string>& alphabet, size_t max_length,
                       std::mt19937* random) {
  std::string text;
  for (size_t n = (*random)() % max_length + 1; n > 0; --n) {
    text += alphabet[(*random)() % alphabet.size()];
  }
  return text;
}

// Pieces of up to five characters, not all of them reachable; some user-defined, some unused.
std::string RandomModel(int model_type, bool with_ties, std::mt19937* random) {
  static const std::vector<std::string> kAlphabet = {"a", "b", "c", "\u00e9", "\u4e2d", "\u2581"};
  const uint32_t n_odd = (*random)() % 3;  // of 16 pieces, how many are user-defined or unused
  std::string pieces = ReservedPieces() + PieceField("\u2581", kNormal, -3);
  std::set<std::string> known = {"\u2581"};
  for (size_t n = (*random)() % 40 + 1; n > 0; --n) {
    const std::string text = RandomText(kAlphabet, known.size() < 5 ? 1 : 5, random);
    if (!known.insert(text).second) continue;
    const uint32_t dice = (*random)() % 16;
    const int type = dice < n_odd ? kUserDefined : dice < 2 * n_odd ? kUnused : kNormal;
    const float score = with_ties ? -static_cast<float>((*random)() % 4)
                                  : std::uniform_real_distribution<float>(-12.f, 0.5f)(*random);
    pieces += PieceField(text, type, score);
  }
  return pieces + TrainerField(model_type) + BytesField(3, BytesField(1, "identity"));
}

class AlgorithmTest : public ::testing::TestWithParam<int> {};

TEST_P(AlgorithmTest, RandomModelsGiveTheIdsOfTheLibrary) {
  static const std::vector<std::string> kTexts = {"a", "b",      "c",      "a",          "b", "c",
                                                  " ", "\u00e9", "\u4e2d", "\U0001f999", "d", "\n"};
  std::mt19937 random(23);
  for (int round = 0; round < 1500; ++round) {
    const std::string model = RandomModel(GetParam(), round % 2 == 0, &random);
    const auto library = LibraryOf(model);
    const auto encoder = EncoderOf(model);
    ASSERT_NE(library, nullptr);
    for (int i = 0; i < 12; ++i) {
      const std::string text = RandomText(kTexts, i == 0 ? 400 : 24, &random);
      ASSERT_EQ(Encode(*encoder, text), LibraryIds(*library, text)) << round << " " << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Algorithms, AlgorithmTest, ::testing::Values(kUnigram, kBpe),
                         [](const auto& type) { return type.param == kBpe ? "bpe" : "unigram"; });

std::string ModelOf(int type, const std::string& pieces) {
  return ReservedPieces() + pieces + TrainerField(type) + BytesField(3, BytesField(1, "identity"));
}

TEST(SentencePieceEncoderTest, BpeJoinsTheHighestScoreFirstAndTheLeftmostOfEquals) {
  const auto encoder =
      EncoderOf(ModelOf(kBpe, PieceField("a", kNormal, -9) + PieceField("b", kNormal, -9) +
                                  PieceField("aa", kNormal, -2) + PieceField("ab", kNormal, -1)));
  EXPECT_THAT(Encode(*encoder, "aab"), ElementsAre(259, 262));
  EXPECT_THAT(Encode(*encoder, "aaa"), ElementsAre(261, 259));
}

TEST(SentencePieceEncoderTest, UnusedPiecesAreSplitIntoWhatTheyWereMergedFrom) {
  const auto encoder =
      EncoderOf(ModelOf(kBpe, PieceField("a", kNormal, -9) + PieceField("b", kNormal, -9) +
                                  PieceField("ab", kUnused, -1) + PieceField("abab", kUnused, -2) +
                                  PieceField("abababab", kNormal, -3)));
  EXPECT_THAT(Encode(*encoder, "abababab"), ElementsAre(263));
  EXPECT_THAT(Encode(*encoder, "abab"), ElementsAre(259, 260, 259, 260));
}

TEST(SentencePieceEncoderTest, NothingMergesWithUserDefinedPieces) {
  for (int type : {kBpe, kUnigram}) {
    const auto encoder = EncoderOf(
        ModelOf(type, PieceField("a", kNormal, -9) + PieceField("xy", kUserDefined, 0) +
                          PieceField("axy", kNormal, -1) + PieceField("xyx", kUserDefined, 0)));
    EXPECT_THAT(Encode(*encoder, "xyxa"), ElementsAre(262, 259)) << type;
    if (type == kBpe) EXPECT_THAT(Encode(*encoder, "axy"), ElementsAre(259, 260));
  }
}

TEST(SentencePieceEncoderTest, UnigramTakesTheHighestSumOfScores) {
  const auto encoder = EncoderOf(
      ModelOf(kUnigram, PieceField("a", kNormal, -1) + PieceField("b", kNormal, -1) +
                            PieceField("ab", kNormal, -2.5f) + PieceField("abb", kNormal, -2.75f)));
  EXPECT_THAT(Encode(*encoder, "ab"), ElementsAre(259, 260));
  EXPECT_THAT(Encode(*encoder, "abb"), ElementsAre(262));
  EXPECT_THAT(Encode(*encoder, "a\u00e9"), ElementsAre(259, 3 + 0xc3, 3 + 0xa9));
}

TEST(SentencePieceEncoderTest, TextsWrittenLikeReservedPiecesAreKept) {
  for (int type : {kBpe, kUnigram}) {
    const auto encoder =
        EncoderOf(ModelOf(type, PieceField("a", kControl, 0) + PieceField("b", kControl, 0) +
                                    PieceField("b", kNormal, -1)));
    EXPECT_THAT(Encode(*encoder, "ab"), ElementsAre(3 + 'a', 261)) << type;
  }
}

TEST(SentencePieceEncoderTest, SpacesThatNoPieceCoversAreTheirOwnByte) {
  for (int type : {kBpe, kUnigram}) {
    const auto encoder = EncoderOf(ModelOf(type, PieceField("a", kNormal, -1)));
    EXPECT_THAT(Encode(*encoder, "a  a"), ElementsAre(259, 3 + ' ', 3 + ' ', 259)) << type;
  }
}

// Texts of many kinds, all of which the library keeps.
std::vector<std::string> RealTexts() {
  std::vector<std::string> texts = {
      "The quick brown fox jumps over the lazy dog.",
      "  two  leading spaces,   many\n\n\nlines\tand tabs ",
      "3.14159 2,718,281 0x1F 1e-9 ---- ==== ....",
      "def f(x):\n    return [i**2 for i in range(x) if i % 3 != 0]  # squares\n",
      "\u4eca\u65e5\u306f\u4e16\u754c\u3001\u3053\u3093\u306b\u3061\u306f",
      "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! "
      "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1",
      "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
      "\u0928\u092e\u0938\u094d\u0924\u0947 \ud55c\uad6d\uc5b4 "
      "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
      "\U0001f469\u200d\U0001f4bb\U0001f999 caf\u00e9 cafe\u0301 \ufb01 \u00bd \ufeff",
      std::string("\0 nul \x01\x7f", 8),
      std::string(3000, 'a'),
      std::string(3000, ' ')};
  for (const char* name : {"ag_news_test", "tinystories_1000", "wikitext_1000"}) {
    const std::string path = SharedPath(std::string("data/corpora/") + name + ".jsonl");
    if (!std::filesystem::exists(path)) continue;
    const std::string corpus = ReadBytes(path);
    int n_lines = 0;
    for (size_t at = 0; at < corpus.size(); at = corpus.find('\n', at) + 1) {
      if (++n_lines % 3 != 0) continue;  // a third of them: the library takes its time
      const std::string line = corpus.substr(at, corpus.find('\n', at) - at);
      texts.push_back(nlohmann::json::parse(line)["text"]);
    }
  }
  std::mt19937 random(29);
  for (int i = 0; i < 5000; ++i) texts.push_back(HardText(&random));
  std::vector<std::string> kept;
  for (std::string& text : texts) {
    if (ValidUtf8Prefix(text) == text.size() && !absl::StrContains(text, kSpaceMark)) {
      kept.push_back(std::move(text));
    }
  }
  return kept;
}

class LibraryTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LibraryTest, RealModelsGiveTheIdsOfTheLibraryOnRealTexts) {
  const std::string dir = SharedPath(GetParam());
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not here";
  const auto library = LibraryOf(ReadBytes(dir + "/tokenizer.model"));
  ASSERT_NE(library, nullptr);
  auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<std::string> texts = RealTexts();
  ASSERT_GT(texts.size(), 1000u);
  for (const std::string& text : texts) {
    if (text.empty()) continue;
    ASSERT_EQ(*(*tokenizer)->Encode(text, false), LibraryIds(*library, " " + text)) << text;
  }
  EXPECT_EQ(static_cast<int>(*(*tokenizer)->bos_id()), library->bos_id());
  EXPECT_EQ(static_cast<int>(*(*tokenizer)->eos_id()), library->eos_id());
}

INSTANTIATE_TEST_SUITE_P(Models, LibraryTest,
                         ::testing::Values("data/tokenizers/llama2", "data/stories260K"),
                         [](const auto& model) { return model.index == 0 ? "llama2" : "stories"; });

// Unigram pieces as a trainer would choose them: the words and syllables of the texts themselves.
TEST(LibraryTest, AUnigramModelOfRealWordsGivesTheIdsOfTheLibrary) {
  std::mt19937 random(31);
  std::set<std::string> known = {"\u2581"};
  std::string pieces = PieceField("\u2581", kNormal, -3);
  const std::vector<std::string> texts = RealTexts();
  for (const std::string& text : texts) {
    if (text.size() < 20) continue;
    for (int i = 0; i < 8 && known.size() < 8000; ++i) {
      const size_t begin = Utf8CutBefore(text, random() % text.size());
      std::string piece = text.substr(begin, Utf8CutBefore(text, begin + random() % 9) - begin);
      piece = absl::StrReplaceAll(piece, {{" ", kSpaceMark}});
      // The library cannot hold a piece with a zero byte.
      if (piece.empty() || piece.find('\0') != std::string::npos) continue;
      if (!known.insert(piece).second) continue;
      pieces += PieceField(piece, kNormal, std::uniform_real_distribution<float>(-14, -3)(random));
    }
  }
  const std::string model = ModelOf(kUnigram, pieces);
  const auto library = LibraryOf(model);
  const auto encoder = EncoderOf(model);
  ASSERT_NE(library, nullptr);
  for (const std::string& text : texts) {
    ASSERT_EQ(Encode(*encoder, text), LibraryIds(*library, text)) << text;
  }
}

}  // namespace
}  // namespace featurescope
