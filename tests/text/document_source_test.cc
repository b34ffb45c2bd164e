#include "server/text/document_source.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/text_pieces.h"
#include "tests/formats/compressed_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DocumentSourceTest : public ::testing::Test {
 protected:
  // "file:line text" of each document; or its error, last.
  std::vector<std::string> Read(const std::string& name, const std::string& bytes) {
    const auto found =
        FindCorpusFiles({WriteBytes(dir_ / name, bytes)}, {}, DocumentFormat::kByName);
    EXPECT_TRUE(found.ok()) << found.status();
    const auto source = DocumentSource::Open(found->files[0], options_);
    if (!source.ok()) return {Shown(source.status())};
    std::vector<std::string> documents;
    Record record;
    while (true) {
      const auto more = (*source)->Next(&record);
      if (!more.ok()) documents.push_back(Shown(more.status()));
      if (!more.ok() || !*more) return documents;
      const std::string where = (*source)->Where(record).substr(dir_.path().size() + 1);
      const auto text = (*source)->Text(record);
      documents.push_back(text.ok() ? absl::StrCat(where, " ", *text) : Shown(text.status()));
    }
  }
  std::string Error(const std::string& name, const std::string& bytes) {
    const std::vector<std::string> documents = Read(name, bytes);
    EXPECT_FALSE(documents.empty());
    return documents.empty() ? "" : documents.back();
  }
  // Without the test's directory.
  std::string Shown(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    std::string message(status.message());
    const size_t at = message.find(dir_.path());
    if (at != std::string::npos) message.erase(at, dir_.path().size() + 1);
    return message;
  }

  TempDir dir_;
  DocumentOptions options_;
};

TEST_F(DocumentSourceTest, ATextFileIsOneDocumentOrCutAtSeparators) {
  EXPECT_THAT(Read("a.txt", "\xef\xbb\xbfone\ntwo\n"), ElementsAre("a.txt one\ntwo\n"));
  EXPECT_THAT(Read("a.txt", ""), IsEmpty());
  options_.text_separator = "<|end|>";
  EXPECT_THAT(Read("a.txt", "one<|end|>\ntwo<|end|><|end|>three"),
              ElementsAre("a.txt, document 1 one", "a.txt, document 2 \ntwo", "a.txt, document 3 ",
                          "a.txt, document 4 three"));
  EXPECT_THAT(Read("a.txt", "one<|end|><|en"),
              ElementsAre("a.txt, document 1 one", "a.txt, document 2 <|en"));
  EXPECT_THAT(Read("a.txt", "one<|end|>"), ElementsAre("a.txt, document 1 one"));
}

TEST_F(DocumentSourceTest, SeparatorsAcrossBlocksAreFound) {
  for (size_t size : {(1u << 20) - 8, (1u << 20) - 7, (1u << 20) - 1, 1u << 20, (1u << 20) + 1}) {
    const std::string text = std::string(size, 'a') + "<|end|>" + std::string(3 << 20, 'b') + "<";
    for (const std::string& bytes : {text, Gzip(text)}) {
      TextPieces pieces(*CompressedFile::Open(WriteBytes(dir_ / "f", bytes)), "<|end|>", 4 << 20);
      std::string piece;
      ASSERT_TRUE(*pieces.Next(&piece));
      ASSERT_EQ(piece, std::string(size, 'a'));
      ASSERT_TRUE(*pieces.Next(&piece));
      ASSERT_EQ(piece, std::string(3 << 20, 'b') + "<");
      ASSERT_FALSE(*pieces.Next(&piece));
      ASSERT_FALSE(*pieces.Next(&piece));
      EXPECT_EQ(pieces.number(), 2u);
    }
  }
}

TEST_F(DocumentSourceTest, PiecesAreBounded) {
  const std::string path = WriteBytes(dir_ / "f", "12\n1234\n12345\n");
  TextPieces lines(*CompressedFile::Open(path), "\n", 4);
  std::string piece;
  ASSERT_TRUE(*lines.Next(&piece));
  ASSERT_TRUE(*lines.Next(&piece));
  EXPECT_EQ(Shown(lines.Next(&piece).status()), "f:3: line of more than 4 bytes");
  TextPieces whole(*CompressedFile::Open(path), "", 4);
  EXPECT_THAT(Shown(whole.Next(&piece).status()), HasSubstr("f: document 1 has more than 4 bytes"));
  // However much a small file decompresses to, a block more than allowed is read at most.
  const std::string bomb = Zstd(std::string(60 << 20, 'a'));
  EXPECT_LT(bomb.size(), 10000u);
  TextPieces expanded(*CompressedFile::Open(WriteBytes(dir_ / "g", bomb)), "\n", 1 << 20);
  EXPECT_EQ(Shown(expanded.Next(&piece).status()), "g:1: line of more than 1048576 bytes");
  EXPECT_LE(expanded.file().bytes_read(), 3u << 20);
}

TEST_F(DocumentSourceTest, FieldsOfJsonLinesMayBeNested) {
  options_.text_field = "a.b";
  EXPECT_THAT(
      Read("f.jsonl", "{\"a\":{\"b\":\"x\"}}\n\n \r\n{\"a.b\":\"y\",\"a\":{\"b\":\"z\"}}\r\n"),
      ElementsAre("f.jsonl:1 x", "f.jsonl:4 y"));
  EXPECT_EQ(Error("f.jsonl", "{\"a\":\"x\",\"c\":1}"),
            "f.jsonl:1: field \"a.b\" is missing; there are \"a\", \"c\"");
  EXPECT_EQ(Error("f.jsonl", "{\"a\":{\"c\":1}}"),
            "f.jsonl:1: field \"a.b\" is missing; there are \"a\"");
  options_.text_field = "text";
  EXPECT_THAT(Read("f.jsonl", "{\"text\":null}\n{\"text\":\"\"}"),
              ElementsAre("f.jsonl:1 ", "f.jsonl:2 "));
  EXPECT_EQ(Error("f.jsonl", "{}"), "f.jsonl:1: field \"text\" is missing");
  EXPECT_EQ(Error("f.jsonl", "{\"text\":[\"x\"]}"),
            "f.jsonl:1: field \"text\" must be a string, it is an array");
  EXPECT_EQ(Error("f.jsonl", "7"), "f.jsonl:1: expected an object, found a number");
  EXPECT_THAT(Error("f.jsonl", "{\n  \"text\": \"x\"\n}\n"), HasSubstr("f.jsonl:3: bad JSON"));
  EXPECT_THAT(Error("f.jsonl", "\n" + std::string(100, '[')),
              HasSubstr("f.jsonl:2: begins with '['"));
  EXPECT_THAT(Error("f.jsonl", "{\"text\":" + std::string(100000, '[')),
              HasSubstr("nested deeper"));
}

TEST_F(DocumentSourceTest, ManyOrHostileFieldNamesAreShownBriefly) {
  std::string line = "{\"\\u0007" + std::string(1000, 'x') + "\":1";
  for (int i = 0; i < 1000; ++i) absl::StrAppend(&line, ",\"f", i, "\":1");
  const std::string error = Error("f.jsonl", line + "}");
  EXPECT_THAT(error, HasSubstr("\\x07xxx"));
  EXPECT_LT(error.size(), 400u);
}

TEST_F(DocumentSourceTest, AColumnOfACsvIsTheText) {
  EXPECT_THAT(
      Read("a.csv", "\xef\xbb\xbftext,id\none,1\r\n\n\"t,w\"\"o\"\"\r\nlines\",2\n,3\nlast,4"),
      ElementsAre("a.csv:2 one", "a.csv:4 t,w\"o\"\r\nlines", "a.csv:6 ", "a.csv:7 last"));
  EXPECT_THAT(Read("a.tsv", "id\t\"text\"\n1\tone, two\n2\t\"a\tb\"\n"),
              ElementsAre("a.tsv:2 one, two", "a.tsv:3 a\tb"));
  EXPECT_THAT(Read("a.csv", "text\n\"\"\n\"\n\"\nx\"y\"\n"),
              ElementsAre("a.csv:2 ", "a.csv:3 \n", "a.csv:5 x\"y\""));
  EXPECT_THAT(Read("a.csv", "id,text\n"), IsEmpty());
  options_.text_field = "a b";
  EXPECT_THAT(Read("a.csv", "x,a b\n1,2\n"), ElementsAre("a.csv:2 2"));
}

TEST_F(DocumentSourceTest, QuotesOfACsvCanBeText) {
  options_.csv_quotes = false;
  EXPECT_THAT(Read("a.tsv", "id\ttext\n1\t\"open\n2\ta\"\"b\r\n"),
              ElementsAre("a.tsv:2 \"open", "a.tsv:3 a\"\"b"));
}

TEST_F(DocumentSourceTest, BadCsvsAreNamedByFileAndLine) {
  EXPECT_EQ(Error("a.csv", "id,body,\"ti,tle\"\n1,2,3\n"),
            "a.csv:1: has no column \"text\"; its columns are \"id\", \"body\", \"ti,tle\"");
  EXPECT_EQ(Error("a.csv", "text,text\n"),
            "a.csv:1: has more than one column \"text\"; its columns are \"text\", \"text\"");
  EXPECT_EQ(Error("a.csv", "\n"), "a.csv: is empty, it must begin with a header line");
  EXPECT_EQ(Error("a.csv", "text,id\nx,1\ny\n"), "a.csv:3: has 1 fields, the header has 2");
  EXPECT_EQ(Error("a.csv", "text,id\n\"x\ny\",1,2\n"), "a.csv:2: has 3 fields, the header has 2");
  EXPECT_EQ(Error("a.csv", "text,id\n1,\"x\" y\n"),
            "a.csv:2: field 2: something follows its closing quote");
  EXPECT_THAT(Error("a.csv", "text\nx\n\"y\nz\n"),
              HasSubstr("a.csv:3: the quotes of a field that begins"));
  EXPECT_THAT(Error("a.csv", "text\n\"" + std::string(65 << 20, 'x')), HasSubstr("a.csv:2: "));
  EXPECT_THAT(Error("a.csv", "text\rone\rtwo"), HasSubstr("carriage returns without line feeds"));
  EXPECT_THAT(Error("a.csv", std::string("text\na\0\n", 8)),
              HasSubstr("a.csv:2: is a binary file"));
  EXPECT_THAT(Error("a.csv", "\xff\xfet\0e\0"), HasSubstr("UTF-16"));
  std::string wide = "c0";
  for (int i = 1; i < 5000; ++i) absl::StrAppend(&wide, ",c", i);
  EXPECT_LT(Error("a.csv", wide).size(), 400u);
}

}  // namespace
}  // namespace featurescope
