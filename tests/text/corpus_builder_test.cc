#include "server/text/corpus_builder.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/formats/token_file.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One token a byte; id 256 is BOS.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    bos_id_ = 256;
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
  uint32_t vocab_size() const override { return 257; }
  bool IsSpecial(uint32_t id) const override { return id == 256; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text, bool) const override {
    std::vector<uint32_t> ids;
    for (char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
};

class CorpusBuilderTest : public ::testing::Test {
 protected:
  absl::StatusOr<CorpusSummary> Build(std::vector<std::string> names) {
    spec_.paths.clear();
    for (const std::string& name : names) spec_.paths.push_back(dir_ / name);
    std::filesystem::remove_all(dir_ / "out");
    return BuildCorpus(spec_, ByteTokenizer(), dir_ / "out", progress_, cancel_);
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
  CorpusProgress progress_;
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
  EXPECT_THAT(Error("a.txt", "\x1f\x8b\x08zip"), HasSubstr("gzip"));
  EXPECT_THAT(Error("a.txt", "PAR1...."), HasSubstr("Parquet"));
  EXPECT_THAT(Error("a.txt", std::string("\xff\xfeh\0i\0", 6)), HasSubstr("UTF-16"));
  EXPECT_THAT(Error("a.json", "{}"), HasSubstr(".jsonl"));
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

TEST_F(CorpusBuilderTest, ProgressEndsAtAllBytes) {
  std::string lines;
  for (int i = 0; i < 30000; ++i) lines += "{\"text\": \"some text of a line\"}\n";
  WriteBytes(dir_ / "a.jsonl", lines);
  std::vector<uint64_t> read;
  progress_ = [&](uint64_t bytes_read, uint64_t bytes_total, uint64_t n_tokens) {
    EXPECT_EQ(bytes_total, lines.size());
    EXPECT_GT(n_tokens, 0u);
    read.push_back(bytes_read);
  };
  ASSERT_TRUE(Build({"a.jsonl"}).ok());
  EXPECT_GT(read.size(), 2u);
  EXPECT_TRUE(std::is_sorted(read.begin(), read.end()));
  EXPECT_EQ(read.back(), lines.size());
}

TEST_F(CorpusBuilderTest, CancellingLeavesNothing) {
  WriteBytes(dir_ / "a.txt", "text");
  cancel_.Cancel();
  EXPECT_EQ(Build({"a.txt"}).status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "out"));
}

}  // namespace
}  // namespace featurescope
