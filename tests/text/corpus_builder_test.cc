#include "server/text/corpus_builder.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/json.h"
#include "server/formats/token_file.h"
#include "tests/formats/compressed_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One token a byte; id 256 is BOS, 257 is EOS.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    bos_id_ = 256;
    eos_id_ = 257;
    hash_ = "bytes";
  }
  std::string Decode(absl::Span<const uint32_t> ids) const override {
    std::string bytes;
    for (uint32_t id : ids) bytes += TokenBytes(id);
    return bytes;
  }
  std::string TokenBytes(uint32_t id) const override {
    return id < 256 ? std::string(1, static_cast<char>(id)) : "";
  }
  uint32_t vocab_size() const override { return 258; }
  bool IsSpecial(uint32_t id) const override { return id >= 256; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text, bool) const override {
    std::vector<uint32_t> ids;
    for (char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
};

// JSON lines, "text" of 5 to 20 letters.
std::string RandomLines(int n, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string lines;
  for (int i = 0; i < n; ++i) {
    lines += "{\"text\": \"";
    for (size_t length = 5 + random() % 16; length > 0; --length) {
      lines.push_back(static_cast<char>('a' + random() % 26));
    }
    lines += "\"}\n";
  }
  return lines;
}

class CorpusBuilderTest : public ::testing::Test {
 protected:
  absl::StatusOr<CorpusSummary> Build(std::vector<std::string> names) {
    spec_.paths.clear();
    for (const std::string& name : names) spec_.paths.push_back(dir_ / name);
    std::filesystem::remove_all(dir_ / "out");
    return BuildCorpus(spec_, ByteTokenizer(), dir_ / "out", observer_, cancel_);
  }
  std::string Error(const std::string& name, const std::string& bytes) {
    WriteBytes(dir_ / name, bytes);
    const absl::Status status = Build({name}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out/corpus.json"));
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out/tokens.bin"));
    return std::string(status.message());
  }
  std::vector<std::string> Documents() {
    auto file = *TokenFile::Open(dir_ / "out");
    std::vector<std::string> documents(file->n_documents());
    std::vector<uint32_t> ids;
    EXPECT_TRUE(file->Tokens(0, file->n_tokens(), &ids).ok());
    for (uint64_t i = 0; i < ids.size(); ++i) {
      if (ids[i] != 256) documents[file->DocumentOf(i)].push_back(static_cast<char>(ids[i]));
    }
    return documents;
  }

  TempDir dir_;
  CorpusSpec spec_;
  CorpusObserver observer_;
  CancelToken cancel_;
};

TEST_F(CorpusBuilderTest, ATextFileIsADocumentAJsonLineIsADocument) {
  WriteBytes(dir_ / "a.txt", "\xef\xbb\xbfone\ntwo\n\xff");
  WriteBytes(dir_ / "b.jsonl",
             "\xef\xbb\xbf{\"text\": \"three\", \"label\": [1]}\r\n\n  \n{\"text\":\"\"}\n"
             "{\"text\":\"f\\u00f6ur\"}");
  absl::StatusOr<CorpusSummary> summary = Build({"b.jsonl", "a.txt"});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(Documents(), ElementsAre("three", "f\xc3\xb6ur", "one\ntwo\n\xff"));
  EXPECT_EQ(summary->n_documents, 3u);
  EXPECT_EQ(summary->n_empty_documents, 1u);
  EXPECT_EQ(summary->n_tokens, 5u + 5u + 9u + 3u);
  EXPECT_EQ(summary->n_contexts, 1u);
  auto file = *TokenFile::Open(dir_ / "out");
  EXPECT_EQ(file->hash(), summary->hash);
  EXPECT_TRUE(file->Verify().ok());
  EXPECT_EQ(file->spec().tokenizer_hash, "bytes");
}

TEST_F(CorpusBuilderTest, TheSameInputGivesTheSameHash) {
  WriteBytes(dir_ / "a.txt", std::string(5000, 'x'));
  const std::string hash = Build({"a.txt"})->hash;
  EXPECT_EQ(Build({"a.txt"})->hash, hash);
  spec_.context_size = 64;
  EXPECT_NE(Build({"a.txt"})->hash, hash);
}

TEST_F(CorpusBuilderTest, TheFieldOfTheTextCanBeChosen) {
  WriteBytes(dir_ / "a.jsonl", "{\"body\": \"x\", \"text\": \"y\"}\n");
  spec_.text_field = "body";
  ASSERT_TRUE(Build({"a.jsonl"}).ok());
  EXPECT_THAT(Documents(), ElementsAre("x"));
}

TEST_F(CorpusBuilderTest, BadLinesAreNamedByFileAndLine) {
  EXPECT_THAT(Error("a.jsonl", "{\"text\":\"x\"}\n{\"text\":\n"), HasSubstr("a.jsonl:2: bad JSON"));
  EXPECT_THAT(Error("a.jsonl", "{\"text\":\"x\"}\n\n{\"txt\":\"x\"}\n"),
              HasSubstr("a.jsonl:3: field \"text\" is missing"));
  EXPECT_THAT(Error("a.jsonl", "{\"text\":7}\n"), HasSubstr("a.jsonl:1"));
  EXPECT_THAT(Error("a.jsonl", "\"text\"\n"), HasSubstr("a.jsonl:1"));
  EXPECT_THAT(Error("a.jsonl", "{\"text\":\"\xff\"}\n"), HasSubstr("a.jsonl:1"));
}

TEST_F(CorpusBuilderTest, WrongFormatsAreRecognised) {
  EXPECT_THAT(Error("a.jsonl", "[\n{\"text\":\"x\"}\n]\n"), HasSubstr("JSON array"));
  EXPECT_THAT(Error("a.txt", std::string("ab\0c", 4)), HasSubstr("NUL byte at offset 2"));
  EXPECT_THAT(Error("a.jsonl", std::string("ab\0c\n", 5)), HasSubstr("binary"));
  EXPECT_THAT(Error("a.txt", Gzip(Gzip("ab"))), HasSubstr("a gzip archive inside"));
  EXPECT_THAT(Error("a.txt", Gzip(Zstd("ab"))), HasSubstr("a zstd archive inside"));
  EXPECT_THAT(Error("a.csv", "PK\x03\x04"), HasSubstr("zip archive"));
  EXPECT_THAT(Error("a.txt", std::string(257, 'x') + "ustar  "), HasSubstr("tar archive"));
  EXPECT_THAT(Error("a.txt", "PAR1...."), HasSubstr("Parquet"));
  EXPECT_THAT(Error("a.txt", std::string("\xff\xfeh\0i\0", 6)), HasSubstr("UTF-16"));
  EXPECT_THAT(Error("a.md", "text"), HasSubstr(".jsonl"));
  EXPECT_THAT(Error("a", "text"), HasSubstr(".txt"));
}

TEST_F(CorpusBuilderTest, AnEmptyCorpusIsAnError) {
  EXPECT_THAT(Error("a.txt", ""), HasSubstr("empty"));
  EXPECT_THAT(Error("a.jsonl", "\n\n"), HasSubstr("empty"));
  EXPECT_THAT(Error("a.jsonl", "{\"text\":\"\"}\n"), HasSubstr("1 empty document"));
  EXPECT_EQ(Build({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Build({"missing.txt"}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CorpusBuilderTest, IdsBeyondTheModelAreRefused) {
  WriteBytes(dir_ / "a.txt", "az");
  spec_.prepend_bos = false;
  spec_.vocab_size = 'z';
  const absl::Status status = Build({"a.txt"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 122"));
}

TEST_F(CorpusBuilderTest, LinesLongerThanABlockAreWhole) {
  std::string text(3 << 20, 'a');
  WriteBytes(dir_ / "a.jsonl", absl::StrCat("{\"text\":\"b\"}\n{\"text\":\"", text, "\"}\n"));
  ASSERT_TRUE(Build({"a.jsonl"}).ok());
  EXPECT_THAT(Documents(), ElementsAre("b", text));
}

TEST_F(CorpusBuilderTest, ProgressIsInBytesOfTheFilesAndEndsAtAll) {
  const std::string lines = RandomLines(60000);
  for (const std::string name : {"a.jsonl", "a.jsonl.gz", "a.jsonl.zst"}) {
    const std::string bytes = name == "a.jsonl"      ? lines
                              : name == "a.jsonl.gz" ? Gzip(lines)
                                                     : Zstd(lines);
    WriteBytes(dir_ / name, bytes);
    std::vector<CorpusBuildProgress> seen;
    observer_ = [&](const CorpusBuildProgress& progress) { seen.push_back(progress); };
    const auto summary = Build({name, name});
    ASSERT_TRUE(summary.ok()) << summary.status();
    ASSERT_GT(seen.size(), 4u) << name;
    for (size_t i = 0; i < seen.size(); ++i) {
      EXPECT_EQ(seen[i].file_bytes_total, 2 * bytes.size());
      EXPECT_GT(seen[i].n_tokens, i == 0 ? 0 : seen[i - 1].n_tokens - 1);
      EXPECT_GE(seen[i].file_bytes_read, i == 0 ? 1 : seen[i - 1].file_bytes_read);
      EXPECT_GE(seen[i].seconds, i == 0 ? 0 : seen[i - 1].seconds);
    }
    EXPECT_LT(seen.front().file_bytes_read, bytes.size());
    EXPECT_EQ(seen.back().file_bytes_read, 2 * bytes.size());
    EXPECT_EQ(seen.back().n_tokens, summary->n_tokens);
    EXPECT_EQ(seen.back().n_documents, 120000u);
    EXPECT_EQ(seen.back().text_bytes, summary->text_bytes);
    EXPECT_GT(seen.back().tokens_per_second(), 0);
    EXPECT_EQ(summary->file_bytes, 2 * bytes.size());
  }
}

TEST_F(CorpusBuilderTest, TheThreeNumbersOfProgressAreThoseOfTheWhole) {
  WriteBytes(dir_ / "a.txt", "some text");
  spec_.paths = {dir_ / "a.txt"};
  int calls = 0;
  const CorpusProgress progress = [&](uint64_t read, uint64_t total, uint64_t n_tokens) {
    ++calls;
    EXPECT_EQ(read, 9u);
    EXPECT_EQ(total, 9u);
    EXPECT_EQ(n_tokens, 10u);
  };
  ASSERT_TRUE(BuildCorpus(spec_, ByteTokenizer(), dir_ / "out", progress, cancel_).ok());
  EXPECT_EQ(calls, 1);
}

TEST_F(CorpusBuilderTest, EveryFormatGivesTheSameCorpus) {
  const std::vector<std::string> texts = {"one, two", "\"quoted\"\nlines", "t\xc3\xa9xt", "last"};
  std::string jsonl;
  std::string csv = "id,text\r\n";
  std::string tsv = "text\tid\n";
  std::string joined;
  for (const std::string& text : texts) {
    jsonl += nlohmann::json{{"id", 7}, {"text", text}}.dump() + "\n";
    const std::string quoted = absl::StrReplaceAll(text, {{"\"", "\"\""}});
    absl::StrAppend(&csv, "7,\"", quoted, "\"\r\n");
    absl::StrAppend(&tsv, "\"", quoted, "\"\t7\n");
    absl::StrAppend(&joined, joined.empty() ? "" : "<|end|>", text);
  }
  spec_.text_separator = "<|end|>";
  spec_.holdout = 0.3;
  std::string hash;
  for (const auto& [name, bytes] : std::vector<std::pair<std::string, std::string>>{
           {"a.jsonl", jsonl}, {"b.csv", csv}, {"c.tsv", tsv}, {"d.txt", joined}}) {
    for (const std::string ending : {"", ".gz", ".zst"}) {
      WriteBytes(dir_ / (name + ending), ending == ".gz"    ? Gzip(bytes)
                                         : ending == ".zst" ? Zstd(bytes)
                                                            : bytes);
      const auto summary = Build({name + ending});
      ASSERT_TRUE(summary.ok()) << summary.status();
      if (hash.empty()) hash = summary->hash;
      EXPECT_EQ(summary->hash, hash) << name << ending;
      EXPECT_EQ(summary->n_documents, 4u);
      EXPECT_GT(summary->n_heldout_documents, 0u);
      const std::string format(DocumentFormatName(FormatOfName(name)));
      EXPECT_THAT(summary->formats, ElementsAre(format + ending));
    }
  }
}

TEST_F(CorpusBuilderTest, ThreadsDoNotChangeTheCorpus) {
  WriteBytes(dir_ / "a.jsonl.gz", Gzip(RandomLines(20000)));
  WriteBytes(dir_ / "b.txt", std::string(700000, 'b'));
  WriteBytes(dir_ / "c.jsonl", RandomLines(50));
  spec_.holdout = 0.1;
  spec_.layout = ContextLayout::kSplit;
  std::string hash;
  for (int n_threads : {1, 2, 7}) {
    spec_.n_threads = n_threads;
    const auto summary = Build({"a.jsonl.gz", "b.txt", "c.jsonl"});
    ASSERT_TRUE(summary.ok()) << summary.status();
    if (hash.empty()) hash = summary->hash;
    EXPECT_EQ(summary->hash, hash) << n_threads;
    EXPECT_EQ(summary->n_documents, 20051u);
  }
}

TEST_F(CorpusBuilderTest, OfSeveralErrorsTheFirstIsReported) {
  const std::string lines = RandomLines(4000);
  WriteBytes(dir_ / "a.jsonl", lines + "{\"text\": 1}\n" + lines + "{\"text\": 2}\n");
  const std::string gzip = Gzip(lines + lines);
  WriteBytes(dir_ / "b.jsonl.gz", gzip.substr(0, gzip.size() / 2));
  for (int n_threads : {1, 4}) {
    spec_.n_threads = n_threads;
    for (int round = 0; round < 3; ++round) {
      EXPECT_THAT(std::string(Build({"a.jsonl", "b.jsonl.gz"}).status().message()),
                  HasSubstr("a.jsonl:4001: field \"text\" must be a string, it is a number"));
      const absl::Status status = Build({"b.jsonl.gz", "a.jsonl"}).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr(absl::StrCat("b.jsonl.gz: at byte ", gzip.size() / 2)));
      EXPECT_TRUE(std::filesystem::is_empty(dir_ / "out"));
    }
  }
}

TEST_F(CorpusBuilderTest, ADocumentIsHeldOutForItsTextAlone) {
  WriteBytes(dir_ / "a.jsonl", RandomLines(3000));
  WriteBytes(dir_ / "b.jsonl", RandomLines(50, 2) + RandomLines(3000));
  spec_.holdout = 0.1;
  spec_.layout = ContextLayout::kTruncated;
  const auto heldout = [&](const std::string& name) {
    const auto summary = Build({name});
    EXPECT_TRUE(summary.ok()) << summary.status();
    const auto file = *TokenFile::Open(dir_ / "out");
    EXPECT_EQ(file->heldout_contexts().size(), summary->n_heldout_contexts);
    EXPECT_EQ(file->n_heldout_tokens(), summary->n_heldout_tokens);
    const std::vector<std::string> documents = Documents();
    const std::set<std::string> train(documents.begin(),
                                      documents.begin() + file->n_train_documents());
    std::set<std::string> held(documents.begin() + file->n_train_documents(), documents.end());
    for (const std::string& text : held) EXPECT_EQ(train.count(text), 0u);
    return held;
  };
  const std::set<std::string> few = heldout("a.jsonl");
  EXPECT_GT(few.size(), 240u);
  EXPECT_LT(few.size(), 360u);
  const std::set<std::string> more = heldout("b.jsonl");
  EXPECT_TRUE(std::includes(more.begin(), more.end(), few.begin(), few.end()));
  spec_.holdout = 0.2;
  const std::set<std::string> twice = heldout("a.jsonl");
  EXPECT_GT(twice.size(), few.size());
  EXPECT_TRUE(std::includes(twice.begin(), twice.end(), few.begin(), few.end()));
}

TEST_F(CorpusBuilderTest, AHoldoutThatTakesNothingIsRefused) {
  WriteBytes(dir_ / "a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
  spec_.holdout = 1e-9;
  EXPECT_THAT(std::string(Build({"a.jsonl"}).status().message()),
              HasSubstr("holdout 1e-09 takes 0 of 2 document(s)"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "out"));
  for (double bad : {-0.1, 1.0, std::nan("")}) {
    spec_.holdout = bad;
    EXPECT_THAT(std::string(Build({"a.jsonl"}).status().message()), HasSubstr("holdout"));
  }
}

TEST_F(CorpusBuilderTest, ContextsAreLaidOutAsAsked) {
  WriteBytes(dir_ / "a.jsonl", "{\"text\":\"abcde\"}\n{\"text\":\"fg\"}\n");
  spec_.context_size = 4;
  const auto contexts = [&] {
    const auto summary = Build({"a.jsonl"});
    EXPECT_TRUE(summary.ok()) << summary.status();
    const auto file = *TokenFile::Open(dir_ / "out");
    std::string text;
    std::vector<uint32_t> ids;
    for (uint64_t i = 0; i < file->n_contexts(); ++i) {
      EXPECT_TRUE(file->Context(i, &ids).ok());
      for (uint32_t id : ids) text.push_back(id == 256 ? '^' : id == 257 ? '$' : char(id));
      text.push_back(' ');
    }
    EXPECT_EQ(summary->n_contexts, file->n_contexts());
    EXPECT_EQ(summary->n_dropped_tokens, spec_.layout == ContextLayout::kTruncated ? 2u : 0u);
    return text;
  };
  EXPECT_EQ(contexts(), "^abc ^de^ ^fg ");
  spec_.document_bos = false;
  spec_.append_eos = true;
  EXPECT_EQ(contexts(), "^abc ^de$ ^fg$ ");
  spec_.layout = ContextLayout::kSplit;
  EXPECT_EQ(contexts(), "^abc ^de$ ^fg$ ");
  spec_.layout = ContextLayout::kTruncated;
  EXPECT_EQ(contexts(), "^abc ^fg$ ");
}

// With the demo model's own tokenizer and corpus.
TEST_F(CorpusBuilderTest, TokensDecodeToTheDocumentsAndAddingAgainGivesTheSame) {
  const auto tokenizer = Tokenizer::Load(SourcePath("deploy/demo"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  spec_.paths = {SourcePath("deploy/demo/corpus.jsonl")};
  const auto summary = BuildCorpus(spec_, **tokenizer, dir_ / "a", observer_, cancel_);
  ASSERT_TRUE(summary.ok()) << summary.status();
  const auto file = *TokenFile::Open(dir_ / "a");
  EXPECT_EQ(file->spec().tokenizer_hash, (*tokenizer)->hash());
  std::vector<uint32_t> ids;
  uint64_t document = 0;
  std::ifstream in(spec_.paths[0]);
  for (std::string line; std::getline(in, line); ++document) {
    ASSERT_LT(document, file->n_documents());
    const uint64_t begin = file->DocumentBegin(document);
    const uint64_t end =
        document + 1 == file->n_documents() ? file->n_tokens() : file->DocumentBegin(document + 1);
    ASSERT_TRUE(file->Tokens(begin, end - begin, &ids).ok());
    ids.erase(std::remove(ids.begin(), ids.end(), file->bos_id()), ids.end());
    ASSERT_EQ((*tokenizer)->Decode(ids), *JsonString(*ParseJson(line, "line"), "text", "line"));
  }
  EXPECT_EQ(document, file->n_documents());
  const auto again = BuildCorpus(spec_, **tokenizer, dir_ / "b", observer_, cancel_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->hash, summary->hash);
  EXPECT_EQ(ReadBytes(dir_ / "a/corpus.json"), ReadBytes(dir_ / "b/corpus.json"));
}

TEST_F(CorpusBuilderTest, ADirectoryIsReadToTheBottomInTheOrderOfNames) {
  std::filesystem::create_directories(dir_ / "d/b");
  WriteBytes(dir_ / "d/b/2.txt", "second");
  WriteBytes(dir_ / "d/c.jsonl.gz", Gzip("{\"text\":\"third\"}\n"));
  WriteBytes(dir_ / "d/a.csv", "text\nfirst\n");
  WriteBytes(dir_ / "d/b/image.png", std::string("\0", 1));
  const auto summary = Build({"d"});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(Documents(), ElementsAre("first", "second", "third"));
  EXPECT_EQ(summary->n_files, 3u);
  EXPECT_THAT(summary->formats, ElementsAre("csv", "jsonl.gz", "text"));
  EXPECT_EQ(summary->n_skipped_files, 1u);
  EXPECT_THAT(summary->skipped_files, ElementsAre(dir_ / "d/b/image.png"));
}

TEST_F(CorpusBuilderTest, CancellingLeavesNothing) {
  WriteBytes(dir_ / "a.txt", "text");
  cancel_.Cancel();
  EXPECT_EQ(Build({"a.txt"}).status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "out"));
}

}  // namespace
}  // namespace featurescope
