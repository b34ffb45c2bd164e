#include "server/formats/token_file.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Documents = std::vector<std::vector<uint32_t>>;

TokenFileSpec SmallSpec(bool prepend_bos) {
  TokenFileSpec spec;
  spec.vocab_size = 100;
  spec.context_size = 4;
  spec.prepend_bos = prepend_bos;
  spec.bos_id = 99;
  spec.tokenizer_hash = "abc";
  spec.model_id = "demo";
  return spec;
}

std::string Write(const std::string& dir, const TokenFileSpec& spec, const Documents& documents) {
  TokenFileWriter writer = *TokenFileWriter::Create(dir, spec);
  for (const std::vector<uint32_t>& ids : documents) {
    EXPECT_TRUE(writer.AppendDocument(ids).ok());
  }
  EXPECT_TRUE(writer.Finish().ok());
  return writer.hash();
}

std::vector<uint32_t> ContextOf(const TokenFile& file, uint64_t i) {
  std::vector<uint32_t> ids;
  EXPECT_TRUE(file.Context(i, &ids).ok());
  return ids;
}

TEST(TokenFileTest, DocumentsArePackedWithBosInFrontOfContextsAndDocuments) {
  TempDir dir;
  Write(dir / "c", SmallSpec(true), {{1, 2, 3, 4, 5}, {}, {6, 7}, {8, 9, 10}});
  auto file = TokenFile::Open(dir / "c");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(ContextOf(**file, 0), ElementsAre(99, 1, 2, 3));
  EXPECT_THAT(ContextOf(**file, 1), ElementsAre(99, 4, 5, 99));
  EXPECT_THAT(ContextOf(**file, 2), ElementsAre(99, 6, 7, 99));
  EXPECT_THAT(ContextOf(**file, 3), ElementsAre(99, 8, 9, 10));
  EXPECT_EQ((*file)->n_contexts(), 4u);
  EXPECT_EQ((*file)->n_documents(), 3u);
  EXPECT_EQ((*file)->DocumentBegin(1), 7u);
  EXPECT_EQ((*file)->DocumentOf(6), 0u);
  EXPECT_EQ((*file)->DocumentOf(7), 1u);
  EXPECT_EQ((*file)->DocumentOf(10), 1u);
  EXPECT_EQ((*file)->DocumentOf(15), 2u);
  EXPECT_EQ((*file)->spec().tokenizer_hash, "abc");
  EXPECT_EQ((*file)->spec().model_id, "demo");
  EXPECT_TRUE((*file)->Verify().ok());
}

TEST(TokenFileTest, WithoutBosTheTokensAreTheDocuments) {
  TempDir dir;
  Write(dir / "c", SmallSpec(false), {{1, 2, 3, 4, 5}, {6, 7}});
  auto file = TokenFile::Open(dir / "c");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(ContextOf(**file, 0), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(ContextOf(**file, 1), ElementsAre(5, 6, 7));
  std::vector<uint32_t> ids;
  EXPECT_EQ((*file)->Context(2, &ids).code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE((*file)->Tokens(3, 3, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(4, 5, 6));
  EXPECT_EQ((*file)->Tokens(3, 5, &ids).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*file)->Tokens(UINT64_MAX, 2, &ids).code(), absl::StatusCode::kOutOfRange);
}

TEST(TokenFileTest, EveryContextIsFullAndBeginsWithBos) {
  for (uint32_t context_size : {2u, 3u, 7u}) {
    TempDir dir;
    TokenFileSpec spec = SmallSpec(true);
    spec.context_size = context_size;
    Documents documents;
    for (uint32_t i = 0; i < 50; ++i) documents.emplace_back(i % 11, i % 99);
    Write(dir / "c", spec, documents);
    auto file = TokenFile::Open(dir / "c");
    ASSERT_TRUE(file.ok()) << file.status();
    Documents seen;
    for (uint64_t i = 0; i < (*file)->n_contexts(); ++i) {
      const std::vector<uint32_t> ids = ContextOf(**file, i);
      ASSERT_EQ(ids[0], 99u);
      if (i + 1 < (*file)->n_contexts()) {
        ASSERT_EQ(ids.size(), context_size);
      }
      for (uint64_t j = 0; j < ids.size(); ++j) {
        const uint64_t document = (*file)->DocumentOf(i * context_size + j);
        if (seen.size() <= document) seen.emplace_back();
        if (ids[j] != 99) seen.back().push_back(ids[j]);
      }
    }
    Documents expected;
    for (const auto& ids : documents) {
      if (!ids.empty()) expected.push_back(ids);
    }
    EXPECT_EQ(seen, expected) << context_size;
  }
}

TEST(TokenFileTest, LargeVocabulariesAreStoredIn32Bits) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(false);
  spec.vocab_size = 65537;
  Write(dir / "c", spec, {{65536, 1}});
  EXPECT_EQ(ReadBytes(dir / "c/tokens.bin"), std::string("\0\0\1\0\1\0\0\0", 8));
  EXPECT_THAT(ContextOf(**TokenFile::Open(dir / "c"), 0), ElementsAre(65536, 1));
  spec.vocab_size = 65536;
  Write(dir / "d", spec, {{65535, 1}});
  EXPECT_EQ(ReadBytes(dir / "d/tokens.bin"), std::string("\xff\xff\1\0", 4));
}

TEST(TokenFileTest, TheHashNamesContentAndParametersButNotTheModel) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(true);
  const std::string hash = Write(dir / "a", spec, {{1, 2}, {3}});
  // Corpora of earlier servers keep their names: computed by hand from the description of
  // version 1.
  EXPECT_EQ(hash, "84c3c4ce4c51db1ddd4b3fdd8230daf43b0ff5a70d38d69e75d2964bbc541399");
  EXPECT_THAT(ReadBytes(dir / "a/corpus.json"), HasSubstr("\"format_version\": 1,"));
  spec.model_id = "other";
  EXPECT_EQ(Write(dir / "b", spec, {{1, 2}, {3}}), hash);
  EXPECT_NE(Write(dir / "c", spec, {{1, 2}, {4}}), hash);
  EXPECT_NE(Write(dir / "d", spec, {{1}, {2, 3}}), hash);
  spec.context_size = 5;
  EXPECT_NE(Write(dir / "e", spec, {{1, 2}, {3}}), hash);
  spec.context_size = 4;
  spec.tokenizer_hash = "x";
  EXPECT_NE(Write(dir / "f", spec, {{1, 2}, {3}}), hash);
}

TEST(TokenFileTest, TheWriterRefusesBadIdsAndParameters) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(true);
  TokenFileWriter writer = *TokenFileWriter::Create(dir / "c", spec);
  EXPECT_EQ(writer.AppendDocument({1, 100}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(writer.Finish().message()), HasSubstr("no tokens"));
  spec.context_size = 1;
  EXPECT_FALSE(TokenFileWriter::Create(dir / "d", spec).ok());
  spec.context_size = kMaxContextSize + 1;
  EXPECT_FALSE(TokenFileWriter::Create(dir / "d", spec).ok());
  spec = SmallSpec(true);
  spec.bos_id = 100;
  EXPECT_FALSE(TokenFileWriter::Create(dir / "d", spec).ok());
  Write(dir / "e", SmallSpec(true), {{1}});
  EXPECT_EQ(TokenFileWriter::Create(dir / "e", SmallSpec(true)).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(TokenFileTest, AnAbandonedWriterLeavesNoCorpus) {
  TempDir dir;
  {
    TokenFileWriter writer = *TokenFileWriter::Create(dir / "c", SmallSpec(true));
    ASSERT_TRUE(writer.AppendDocument({1, 2, 3}).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir / "c"));
  EXPECT_EQ(TokenFile::Open(dir / "c").status().code(), absl::StatusCode::kNotFound);
}

TEST(TokenFileTest, AFinishThatFailsLeavesNoCorpus) {
  TempDir dir;
  TokenFileWriter writer = *TokenFileWriter::Create(dir / "c", SmallSpec(true));
  ASSERT_TRUE(writer.AppendDocument({1, 2, 3}).ok());
  std::filesystem::create_directories(dir / "c/corpus.json.tmp/in the way");
  EXPECT_FALSE(writer.Finish().ok());
  EXPECT_FALSE(std::filesystem::exists(dir / "c/tokens.bin"));
  EXPECT_FALSE(std::filesystem::exists(dir / "c/documents.bin"));
}

TEST(TokenFileTest, TruncatedOrLongerFilesAreRefused) {
  TempDir dir;
  Write(dir / "c", SmallSpec(true), {{1, 2, 3, 4, 5}, {6}});
  for (const char* name : {"tokens.bin", "documents.bin"}) {
    const std::string path = dir / (std::string("c/") + name);
    const std::string bytes = ReadBytes(path);
    for (size_t size = 0; size <= bytes.size() + 1; ++size) {
      WriteBytes(path, (bytes + "x").substr(0, size));
      const absl::Status status = TokenFile::Open(dir / "c").status();
      EXPECT_EQ(status.code(),
                size == bytes.size() ? absl::StatusCode::kOk : absl::StatusCode::kDataLoss)
          << name << " " << size;
    }
    WriteBytes(path, bytes);
  }
  const std::string sidecar = ReadBytes(dir / "c/corpus.json");
  for (size_t size = 0; size + 2 < sidecar.size(); ++size) {
    WriteBytes(dir / "c/corpus.json", sidecar.substr(0, size));
    EXPECT_EQ(TokenFile::Open(dir / "c").status().code(), absl::StatusCode::kInvalidArgument);
  }
  std::filesystem::remove(dir / "c/tokens.bin");
  WriteBytes(dir / "c/corpus.json", sidecar);
  EXPECT_EQ(TokenFile::Open(dir / "c").status().code(), absl::StatusCode::kNotFound);
}

TEST(TokenFileTest, ALyingSidecarIsRefusedNamingTheField) {
  TempDir dir;
  Write(dir / "c", SmallSpec(true), {{1, 2, 3, 4, 5}, {6}});
  const std::string sidecar = ReadBytes(dir / "c/corpus.json");
  const std::vector<std::array<const char*, 3>> lies = {
      {"\"format_version\": 1", "\"format_version\": 3", "format_version 3"},
      {"\"context_size\": 4", "\"context_size\": 0", "context_size"},
      {"\"context_size\": 4", "\"context_size\": 1", "context_size"},
      {"\"context_size\": 4", "\"context_size\": 99999999", "context_size"},
      {"\"vocab_size\": 100", "\"vocab_size\": 0", "vocab_size"},
      {"\"vocab_size\": 100", "\"vocab_size\": 70000", "dtype"},
      {"\"bos_id\": 99", "\"bos_id\": 100", "bos_id"},
      {"\"bos_id\": 99", "\"bos_id\": null", "bos_id"},
      {"\"n_tokens\": 10", "\"n_tokens\": 0", "n_tokens"},
      {"\"n_tokens\": 10", "\"n_tokens\": 9223372036854775807", "n_tokens"},
      {"\"n_tokens\": 10", "\"n_tokens\": 8", "tokens.bin"},
      {"\"n_documents\": 2", "\"n_documents\": 3", "documents.bin"},
      {"\"n_documents\": 2", "\"n_documents\": 11", "n_documents"},
      {"\"dtype\": \"uint16\"", "\"dtype\": \"uint32\"", "dtype"},
      {"\"prepend_bos\": true", "\"prepend_bos\": 1", "prepend_bos"},
  };
  for (const auto& [from, to, message] : lies) {
    const std::string lie = absl::StrReplaceAll(sidecar, {{from, to}});
    ASSERT_NE(lie, sidecar) << from;
    WriteBytes(dir / "c/corpus.json", lie);
    const absl::Status status = TokenFile::Open(dir / "c").status();
    EXPECT_FALSE(status.ok()) << to;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << to;
  }
}

TEST(TokenFileTest, CorruptTokensAndDocumentsAreFound) {
  TempDir dir;
  Write(dir / "c", SmallSpec(false), {{1, 2, 3, 4, 5}, {6}});
  const std::string tokens = ReadBytes(dir / "c/tokens.bin");
  std::string bad = tokens;
  bad[2 * 5] = 100;
  WriteBytes(dir / "c/tokens.bin", bad);
  {
    auto file = TokenFile::Open(dir / "c");
    ASSERT_TRUE(file.ok());
    std::vector<uint32_t> ids;
    EXPECT_TRUE((*file)->Context(0, &ids).ok());
    const absl::Status status = (*file)->Context(1, &ids);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("token 5 has id 100"));
    EXPECT_EQ((*file)->Verify().code(), absl::StatusCode::kDataLoss);
  }
  WriteBytes(dir / "c/tokens.bin", tokens);
  for (const std::string& offsets :
       {std::string("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16),
        std::string("\0\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0", 16),
        std::string("\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16),
        std::string("\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 16)}) {
    WriteBytes(dir / "c/documents.bin", offsets);
    EXPECT_EQ(TokenFile::Open(dir / "c").status().code(), absl::StatusCode::kDataLoss);
  }
}

// One context a line: "[" tokens "]", held-out contexts behind a bar.
std::string Show(const TokenFile& file) {
  std::string text;
  for (uint64_t i = 0; i < file.n_contexts(); ++i) {
    if (i == file.heldout_contexts().begin) text += "| ";
    EXPECT_EQ(ContextOf(file, i).size(), file.ContextLength(i));
    absl::StrAppend(&text, "[", absl::StrJoin(ContextOf(file, i), " "), "] ");
  }
  return text;
}

// The corpus of `documents`, of which those in `held_out` are held out.
std::shared_ptr<const TokenFile> WriteAndOpen(const std::string& dir, const TokenFileSpec& spec,
                                              const Documents& documents,
                                              const std::vector<size_t>& held_out = {}) {
  TokenFileWriter writer = *TokenFileWriter::Create(dir, spec);
  for (size_t i = 0; i < documents.size(); ++i) {
    const bool out = std::count(held_out.begin(), held_out.end(), i) > 0;
    EXPECT_TRUE(writer.AppendDocument(documents[i], out).ok());
  }
  EXPECT_TRUE(writer.Finish().ok());
  auto file = TokenFile::Open(dir);
  EXPECT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Verify().ok());
  EXPECT_EQ((*file)->hash(), writer.hash());
  EXPECT_EQ((*file)->n_contexts(), writer.sizes().n_contexts);
  return *file;
}

TEST(TokenFileTest, DocumentsCanBeSplitIntoContextsOfTheirOwn) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(true);
  spec.layout = ContextLayout::kSplit;
  const Documents documents = {{1, 2, 3, 4, 5, 6, 7}, {8}, {9, 10, 11}};
  const auto file = WriteAndOpen(dir / "a", spec, documents);
  EXPECT_EQ(Show(*file), "[99 1 2 3] [99 4 5 6] [99 7] [99 8] [99 9 10 11] ");
  EXPECT_EQ(file->ContextBegin(3), 10u);
  EXPECT_EQ(file->ContextBegin(5), file->n_tokens());
  EXPECT_EQ(file->DocumentOf(9), 0u);
  EXPECT_EQ(file->DocumentOf(10), 1u);
  EXPECT_EQ(file->spec().layout, ContextLayout::kSplit);
  spec.eos_id = 98;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "b", spec, documents)),
            "[99 1 2 3] [99 4 5 6] [99 7 98] [99 8 98] [99 9 10 11] [99 98] ");
}

TEST(TokenFileTest, DocumentsCanBeTruncatedToOneContext) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(false);
  spec.layout = ContextLayout::kTruncated;
  spec.eos_id = 98;
  const Documents documents = {{1, 2, 3, 4, 5, 6, 7}, {8}, {9, 10, 11, 12}, {13, 14, 15}};
  EXPECT_EQ(Show(*WriteAndOpen(dir / "a", spec, documents)),
            "[1 2 3 4] [8 98] [9 10 11 12] [13 14 15 98] ");
  spec = SmallSpec(true);
  spec.layout = ContextLayout::kTruncated;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "b", spec, documents)),
            "[99 1 2 3] [99 8] [99 9 10 11] [99 13 14 15] ");
  TokenFileWriter writer = *TokenFileWriter::Create(dir / "c", spec);
  for (const auto& ids : documents) ASSERT_TRUE(writer.AppendDocument(ids).ok());
  EXPECT_EQ(writer.n_dropped_tokens(), 4u + 1u);
}

TEST(TokenFileTest, PackedDocumentsAreJoinedAsTheSpecSays) {
  TempDir dir;
  const Documents documents = {{1, 2, 3}, {4, 5}, {6, 7}};
  TokenFileSpec spec = SmallSpec(true);
  spec.document_bos = false;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "a", spec, documents)), "[99 1 2 3] [99 4 5 6] [99 7] ");
  spec.eos_id = 98;
  const auto file = WriteAndOpen(dir / "b", spec, documents);
  EXPECT_EQ(Show(*file), "[99 1 2 3] [99 98 4 5] [99 98 6 7] [99 98] ");
  EXPECT_EQ(file->DocumentBegin(1), 6u);
  EXPECT_EQ(file->spec().eos_id, 98u);
  EXPECT_FALSE(file->spec().document_bos);
  spec.document_bos = true;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "c", spec, documents)),
            "[99 1 2 3] [99 98 99 4] [99 5 98 99] [99 6 7 98] ");
}

TEST(TokenFileTest, ABosThatADocumentBeginsWithIsNotDoubled) {
  TempDir dir;
  const Documents documents = {{99, 1}, {99}, {99, 2, 99, 3}};
  TokenFileSpec spec = SmallSpec(true);
  const auto file = WriteAndOpen(dir / "a", spec, documents);
  EXPECT_EQ(Show(*file), "[99 1 99 99] [99 2 99 3] ");
  EXPECT_EQ(file->DocumentBegin(1), 2u);
  EXPECT_EQ(file->DocumentBegin(2), 3u);
  spec.document_bos = false;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "b", spec, documents)), "[99 1 99 99] [99 2 99 3] ");
  spec.layout = ContextLayout::kSplit;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "c", spec, documents)), "[99 1] [99] [99 2 99 3] ");
  spec.prepend_bos = false;
  EXPECT_EQ(Show(*WriteAndOpen(dir / "d", spec, documents)), "[99 1] [99] [99 2 99 3] ");
}

TEST(TokenFileTest, HeldOutDocumentsLieInContextsOfTheirOwnBehindAllOthers) {
  TempDir dir;
  const Documents documents = {{1, 2, 3, 4}, {5, 6}, {7, 8, 9, 10, 11}, {12}, {}};
  TokenFileSpec spec = SmallSpec(true);
  spec.holdout = 0.4;
  auto file = WriteAndOpen(dir / "a", spec, documents, {0, 2, 4});
  EXPECT_EQ(Show(*file), "[99 5 6 99] [99 12] | [99 1 2 3] [99 4 99 7] [99 8 9 10] [99 11] ");
  EXPECT_EQ(file->train_contexts().size(), 2u);
  EXPECT_EQ(file->heldout_contexts().begin, 2u);
  EXPECT_EQ(file->heldout_contexts().end, 6u);
  EXPECT_EQ(file->n_train_tokens(), 6u);
  EXPECT_EQ(file->n_heldout_tokens(), 14u);
  EXPECT_EQ(file->n_train_documents(), 2u);
  EXPECT_EQ(file->n_documents(), 4u);
  EXPECT_EQ(file->spec().holdout, 0.4);
  for (uint64_t i = 0; i < file->n_contexts(); ++i) {
    EXPECT_EQ(file->DocumentOf(file->ContextBegin(i)) >= 2, i >= 2);
  }
  const std::string hash = file->hash();
  EXPECT_NE(WriteAndOpen(dir / "b", spec, documents, {0})->hash(), hash);
  spec.layout = ContextLayout::kTruncated;
  file = WriteAndOpen(dir / "c", spec, documents, {0, 2});
  EXPECT_EQ(Show(*file), "[99 5 6] [99 12] | [99 1 2 3] [99 7 8 9] ");
  EXPECT_EQ(file->train_contexts().size(), 2u);
}

TEST(TokenFileTest, ManyHeldOutDocumentsAreKeptAsideWhole) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(false);
  spec.vocab_size = 100000;
  spec.layout = ContextLayout::kSplit;
  spec.context_size = 1000;
  Documents documents;
  std::vector<size_t> held_out;
  for (uint32_t i = 0; i < 600; ++i) {
    documents.emplace_back(i % 7 == 0 ? 5000 : 1 + i, 99999 - i);
    if (i % 2 == 0) held_out.push_back(i);
  }
  const auto file = WriteAndOpen(dir / "a", spec, documents, held_out);
  uint64_t document = file->n_train_documents();
  for (size_t i : held_out) {
    const uint64_t begin = file->DocumentBegin(document);
    const uint64_t end =
        ++document == file->n_documents() ? file->n_tokens() : file->DocumentBegin(document);
    std::vector<uint32_t> ids;
    ASSERT_TRUE(file->Tokens(begin, end - begin, &ids).ok());
    ASSERT_EQ(ids, documents[i]);
  }
  EXPECT_EQ(document, file->n_documents());
  EXPECT_FALSE(std::filesystem::exists(dir / "a/heldout.tmp"));
}

TEST(TokenFileTest, WithoutAHeldOutDocumentAllIsToTrainOn) {
  TempDir dir;
  const auto file = WriteAndOpen(dir / "a", SmallSpec(true), {{1, 2, 3, 4, 5}, {6}});
  EXPECT_EQ(file->train_contexts().size(), file->n_contexts());
  EXPECT_EQ(file->heldout_contexts().size(), 0u);
  EXPECT_EQ(file->n_train_tokens(), file->n_tokens());
  EXPECT_EQ(file->n_train_documents(), 2u);
  TokenFileWriter writer = *TokenFileWriter::Create(dir / "b", SmallSpec(true));
  ASSERT_TRUE(writer.AppendDocument({1}, true).ok());
  EXPECT_THAT(std::string(writer.Finish().message()), HasSubstr("none is left to train on"));
}

TEST(TokenFileTest, BadContextsAndPartsAreFound) {
  TempDir dir;
  TokenFileSpec spec = SmallSpec(true);
  spec.layout = ContextLayout::kSplit;
  WriteAndOpen(dir / "c", spec, {{1, 2, 3, 4, 5}, {6}}, {1});
  const std::string contexts = ReadBytes(dir / "c/contexts.bin");  // 0, 4, 7
  for (const auto& [at, value] : std::vector<std::pair<size_t, char>>{
           {0, 1}, {8, 0}, {8, 3 + 8}, {8, 5}, {8, 2}, {16, 8}, {16, 6}, {23, 1}}) {
    std::string bad = contexts;
    bad[at] = value;
    WriteBytes(dir / "c/contexts.bin", bad);
    const absl::Status status = TokenFile::Open(dir / "c").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << at << " " << int{value} << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("contexts.bin"));
  }
  WriteBytes(dir / "c/contexts.bin", contexts.substr(1));
  EXPECT_EQ(TokenFile::Open(dir / "c").status().code(), absl::StatusCode::kDataLoss);
  WriteBytes(dir / "c/contexts.bin", contexts);
  const std::string sidecar = ReadBytes(dir / "c/corpus.json");
  for (const auto& [from, to, message] : std::vector<std::array<const char*, 3>>{
           {"\"layout\": \"split\"", "\"layout\": \"loose\"", "loose"},
           {"\"context_size\": 4", "\"context_size\": 3", "contexts.bin"},
           {"\"n_train_contexts\": 2", "\"n_train_contexts\": 0", "n_train_contexts"},
           {"\"n_train_contexts\": 2", "\"n_train_contexts\": 1", "contexts.bin"},
           {"\"n_train_contexts\": 2", "\"n_train_contexts\": 4", "n_train_contexts"},
           {"\"n_train_tokens\": 7", "\"n_train_tokens\": 6", "documents.bin"},
           {"\"n_train_tokens\": 7", "\"n_train_tokens\": 10", "n_train_tokens"},
           {"\"n_train_documents\": 1", "\"n_train_documents\": 2", "documents.bin"},
           {"\"n_contexts\": 3", "\"n_contexts\": 4", "contexts.bin"},
           {"\"eos_id\": null", "\"eos_id\": 100", "eos_id"},
           {"\"holdout\": 0.0", "\"holdout\": 1.0", "holdout"},
           {"\"document_bos\": true", "\"document_bos\": null", "document_bos"}}) {
    const std::string lie = absl::StrReplaceAll(sidecar, {{from, to}});
    ASSERT_NE(lie, sidecar) << from;
    WriteBytes(dir / "c/corpus.json", lie);
    const absl::Status status = TokenFile::Open(dir / "c").status();
    EXPECT_FALSE(status.ok()) << to;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << to;
  }
}

TEST(TokenFileTest, PackedContextsAreAsManyAsTheTokensMake) {
  TempDir dir;
  WriteAndOpen(dir / "c", SmallSpec(false), {{1, 2, 3, 4, 5}, {6}}, {1});
  const std::string sidecar = ReadBytes(dir / "c/corpus.json");
  for (const auto& [from, to] : std::vector<std::array<const char*, 2>>{
           {"\"n_contexts\": 3", "\"n_contexts\": 2"},
           {"\"n_train_contexts\": 2", "\"n_train_contexts\": 1"}}) {
    const std::string lie = absl::StrReplaceAll(sidecar, {{from, to}});
    ASSERT_NE(lie, sidecar) << from;
    WriteBytes(dir / "c/corpus.json", lie);
    EXPECT_THAT(std::string(TokenFile::Open(dir / "c").status().message()),
                HasSubstr("the tokens make 2 and 3"));
  }
}

}  // namespace
}  // namespace featurescope
