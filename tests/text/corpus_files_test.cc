#include "server/text/corpus_files.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/compressed_bytes.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CorpusFilesTest : public ::testing::Test {
 protected:
  absl::StatusOr<CorpusFiles> Find(const std::string& name,
                                   const std::optional<std::vector<std::string>>& roots = {},
                                   DocumentFormat format = DocumentFormat::kByName) {
    return FindCorpusFiles({dir_ / name}, roots, format);
  }
  // Names below the test's directory.
  std::vector<std::string> Names(const CorpusFiles& found) {
    std::vector<std::string> names;
    for (const CorpusFile& file : found.files) {
      names.push_back(file.name.substr(dir_.path().size() + 1));
    }
    return names;
  }
  void MakeDir(const std::string& name) { fs::create_directories(dir_ / name); }
  void MakeLink(const std::string& target, const std::string& name) {
    fs::create_symlink(target, dir_ / name);
  }

  TempDir dir_;
};

TEST_F(CorpusFilesTest, NamesSayTheFormat) {
  const std::vector<std::pair<std::string, DocumentFormat>> names = {
      {"a.txt", DocumentFormat::kText},
      {"A.TXT.GZ", DocumentFormat::kText},
      {"dir.csv/a.jsonl", DocumentFormat::kJsonLines},
      {"a.ndjson.zst", DocumentFormat::kJsonLines},
      {"c4-train.00000-of-01024.json.gz", DocumentFormat::kJsonLines},
      {"a.csv.zstd", DocumentFormat::kCsv},
      {"a.tsv", DocumentFormat::kTsv},
      {"a.csv/b", DocumentFormat::kByName},
      {"a.gz", DocumentFormat::kByName},
      {"a.txt.bz2", DocumentFormat::kByName},
      {"a.gz.gz", DocumentFormat::kByName},
      {"", DocumentFormat::kByName},
  };
  for (const auto& [name, format] : names) EXPECT_EQ(FormatOfName(name), format) << name;
  for (const char* name : {"", "text", "jsonl", "csv", "tsv"}) {
    EXPECT_EQ(DocumentFormatName(*ParseDocumentFormat(name)), name);
  }
  EXPECT_THAT(std::string(ParseDocumentFormat("xml").status().message()), HasSubstr("\"xml\""));
}

TEST_F(CorpusFilesTest, DirectoriesAreSortedAndHiddenOrForeignFilesLeftOut) {
  MakeDir("d/sub/deep");
  MakeDir("d/.git");
  for (const char* name :
       {"d/b.txt", "d/a.csv", "d/sub/deep/z.jsonl", "d/sub/README.md", "d/.git/c.txt",
        "d/.hidden.txt", "d/dataset_infos.json", "d/c.json.gz", "d/B.txt"}) {
    WriteBytes(dir_ / name, "text");
  }
  mkfifo((dir_ / "d/pipe.txt").c_str(), 0600);
  const auto found = Find("d");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(Names(*found),
              ElementsAre("d/B.txt", "d/a.csv", "d/b.txt", "d/c.json.gz", "d/sub/deep/z.jsonl"));
  EXPECT_EQ(found->n_skipped, 3u);
  EXPECT_THAT(found->skipped, ElementsAre(dir_ / "d/dataset_infos.json", dir_ / "d/pipe.txt",
                                          dir_ / "d/sub/README.md"));
  EXPECT_EQ(found->files[1].format, DocumentFormat::kCsv);
  EXPECT_EQ(found->files[1].bytes, 4u);
  const auto all = Find("d", {}, DocumentFormat::kText);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->files.size(), 7u);
  EXPECT_EQ(all->files[1].format, DocumentFormat::kText);
}

TEST_F(CorpusFilesTest, WhatIsNoTextFileIsRefusedWithItsName) {
  MakeDir("empty/sub");
  WriteBytes(dir_ / "empty/sub/a.bin", "x");
  EXPECT_THAT(std::string(Find("empty").status().message()),
              AllOf(HasSubstr("holds no file named .txt"), HasSubstr("skipped: "),
                    HasSubstr("empty/sub/a.bin")));
  WriteBytes(dir_ / "a.bin", "x");
  EXPECT_THAT(std::string(Find("a.bin").status().message()), HasSubstr("must be named .txt"));
  EXPECT_EQ(Find("a.bin", {}, DocumentFormat::kCsv)->files[0].format, DocumentFormat::kCsv);
  EXPECT_EQ(Find("missing.txt").status().code(), absl::StatusCode::kNotFound);
  mkfifo((dir_ / "pipe.txt").c_str(), 0600);
  EXPECT_THAT(std::string(Find("pipe.txt").status().message()), HasSubstr("not a regular file"));
}

TEST_F(CorpusFilesTest, LinksMustNotLeadOutOfTheDirectory) {
  MakeDir("d/sub");
  WriteBytes(dir_ / "d/sub/a.txt", "inside");
  WriteBytes(dir_ / "secret.txt", "outside");
  MakeLink("sub/a.txt", "d/again.txt");
  MakeLink("sub", "d/linked");
  MakeLink("..", "d/sub/loop");
  const auto found = Find("d");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(Names(*found), ElementsAre("d/again.txt"));  // the same file as d/sub/a.txt
  EXPECT_EQ(found->files[0].path, fs::canonical(dir_ / "d/sub/a.txt").string());
  EXPECT_THAT(found->skipped, ElementsAre(dir_ / "d/linked", dir_ / "d/sub/loop"));

  for (const std::string target : {"../secret.txt", "/etc/passwd", "sub/../../secret.txt", ".."}) {
    MakeLink(target, "d/out.txt");
    EXPECT_EQ(Find("d").status().code(), absl::StatusCode::kPermissionDenied) << target;
    EXPECT_THAT(std::string(Find("d").status().message()), HasSubstr("d/out.txt"));
    fs::remove(dir_ / "d/out.txt");
  }
  MakeLink("missing", "d/out.txt");
  EXPECT_EQ(Find("d").status().code(), absl::StatusCode::kNotFound);
  // A directory that is a link itself is what it leads to.
  fs::remove(dir_ / "d/out.txt");
  MakeLink("d", "e");
  EXPECT_THAT(Names(*Find("e")), ElementsAre("e/again.txt"));
}

TEST_F(CorpusFilesTest, LinksMayLeadToOtherPlacesInsideTheRoots) {
  MakeDir("root/blobs");
  MakeDir("root/snapshot");
  WriteBytes(dir_ / "root/blobs/abc", "content");
  WriteBytes(dir_ / "secret.txt", "outside");
  MakeLink("../blobs/abc", "root/snapshot/train.jsonl");
  const std::vector<std::string> roots = {dir_ / "other", dir_ / "root"};
  for (const char* name : {"root/snapshot", "root/snapshot/train.jsonl"}) {
    const auto found = Find(name, roots);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(Names(*found), ElementsAre("root/snapshot/train.jsonl"));
    EXPECT_EQ(found->files[0].format, DocumentFormat::kJsonLines);
    EXPECT_EQ(found->files[0].path, fs::canonical(dir_ / "root/blobs/abc").string());
    EXPECT_TRUE(OpenCorpusFile(found->files[0]).ok());
  }
  EXPECT_EQ(Find("root/snapshot").status().code(), absl::StatusCode::kPermissionDenied);
  MakeLink("../../secret.txt", "root/snapshot/b.txt");
  EXPECT_EQ(Find("root/snapshot", roots).status().code(), absl::StatusCode::kPermissionDenied);
  // No root allows nothing.
  EXPECT_EQ(Find("root", std::vector<std::string>()).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Find("secret.txt", roots).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Find("root/../secret.txt", roots).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(CorpusFilesTest, AFileReplacedByALinkIsNotRead) {
  MakeDir("d");
  WriteBytes(dir_ / "d/a.txt", "inside");
  WriteBytes(dir_ / "secret.txt", "outside");
  const CorpusFiles found = *Find("d");
  ASSERT_TRUE(OpenCorpusFile(found.files[0]).ok());
  fs::remove(dir_ / "d/a.txt");
  MakeLink("../secret.txt", "d/a.txt");
  EXPECT_EQ(OpenCorpusFile(found.files[0]).status().code(), absl::StatusCode::kFailedPrecondition);
  // Also where a directory above it became a link.
  fs::remove_all(dir_ / "d");
  MakeDir("other");
  WriteBytes(dir_ / "other/a.txt", "outside");
  MakeLink("other", "d");
  EXPECT_EQ(OpenCorpusFile(found.files[0]).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CorpusFilesTest, AFileThatIsNamedCompressedMustBe) {
  WriteBytes(dir_ / "a.txt.gz", "<html>404</html>");
  WriteBytes(dir_ / "b.txt.zst", "");
  WriteBytes(dir_ / "c.txt.zst", Gzip("text"));
  WriteBytes(dir_ / "d.txt", Zstd("text"));
  EXPECT_THAT(std::string(OpenCorpusFile(Find("a.txt.gz")->files[0]).status().message()),
              HasSubstr("a.txt.gz: is named like gzip"));
  EXPECT_THAT(std::string(OpenCorpusFile(Find("b.txt.zst")->files[0]).status().message()),
              HasSubstr("b.txt.zst: is named like zstd"));
  EXPECT_EQ(OpenCorpusFile(Find("c.txt.zst")->files[0])->compression(), Compression::kGzip);
  EXPECT_EQ(OpenCorpusFile(Find("d.txt")->files[0])->compression(), Compression::kZstd);
}

TEST_F(CorpusFilesTest, EndlessDirectoriesEnd) {
  std::string name = "d";
  for (int i = 0; i < 40; ++i) name += "/d";
  MakeDir(name);
  EXPECT_THAT(std::string(Find("d").status().message()), HasSubstr("deeper than 32"));
}

}  // namespace
}  // namespace featurescope
