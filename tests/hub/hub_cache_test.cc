#include "server/hub/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "server/base/cancel.h"
#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr char kRepo[] = "org/model";

absl::Status Go() { return absl::OkStatus(); }

HubFile Large(const std::string& content) {
  return {"weights.bin", content.size(), Sha256Hex(content)};
}

TEST(HubCacheTest, ABlobAppearsOnlyWhenItIsRight) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = Large("hello");
  {
    const auto blob = cache.OpenPartial(kRepo, file, Go);
    ASSERT_TRUE(blob.ok()) << blob.status();
    ASSERT_TRUE((*blob)->Append("hel").ok());
  }
  EXPECT_FALSE(cache.HasBlob(kRepo, file));
  EXPECT_EQ(cache.PartialBytes(kRepo, file), 3u);
  {
    const auto blob = cache.OpenPartial(kRepo, file, Go);
    EXPECT_EQ((*blob)->size(), 3u);
    EXPECT_EQ((*blob)->Append("lo!").code(), absl::StatusCode::kDataLoss);
    ASSERT_TRUE((*blob)->Append("lo").ok());
    ASSERT_TRUE((*blob)->Commit().ok());
  }
  EXPECT_TRUE(cache.HasBlob(kRepo, file));
  EXPECT_EQ(*cache.OpenPartial(kRepo, file, Go), nullptr);
}

TEST(HubCacheTest, WrongContentIsDropped) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = Large("hello");
  const auto blob = cache.OpenPartial(kRepo, file, Go);
  ASSERT_TRUE((*blob)->Append("hellO").ok());
  EXPECT_EQ((*blob)->Commit().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ((*blob)->size(), 0u);
  ASSERT_TRUE((*blob)->Append("hello").ok());
  EXPECT_TRUE((*blob)->Commit().ok());
}

TEST(HubCacheTest, SmallFilesAreCheckedByTheirGitHash) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = {"a.txt", 6, "ce013625030ba8dba906f756967f9e9ca394464a"};
  const auto blob = cache.OpenPartial(kRepo, file, Go);
  ASSERT_TRUE((*blob)->Append("hello\n").ok());
  EXPECT_TRUE((*blob)->Commit().ok());
}

TEST(HubCacheTest, AnEmptyFileIsAFile) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = {"empty", 0, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"};
  const auto blob = cache.OpenPartial(kRepo, file, Go);
  EXPECT_TRUE((*blob)->Commit().ok());
  EXPECT_TRUE(cache.HasBlob(kRepo, file));
}

TEST(HubCacheTest, AFullDiskKeepsWhatWasWritten) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = Large(std::string(3000, 'x'));
  const auto blob = cache.OpenPartial(kRepo, file, Go);
  ASSERT_TRUE(blob.ok()) << blob.status();
  // A limit on the size of files stands for the disk.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit = {1000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status full = (*blob)->Append(std::string(3000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_EQ((*blob)->size(), 1000u);
  EXPECT_EQ(cache.PartialBytes(kRepo, file), 1000u);
  ASSERT_TRUE((*blob)->Append(std::string(2000, 'x')).ok());
  EXPECT_TRUE((*blob)->Commit().ok());
}

TEST(HubCacheTest, OnlyOneWritesABlobAndOthersWait) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = Large("hello");
  auto first = cache.OpenPartial(kRepo, file, Go);
  ASSERT_TRUE(first.ok());

  CancelToken cancel;
  cancel.Cancel();
  EXPECT_EQ(cache.OpenPartial(kRepo, file, [&] { return cancel.Check(); }).status().code(),
            absl::StatusCode::kCancelled);

  std::thread second([&] {
    const auto blob = cache.OpenPartial(kRepo, file, Go);
    EXPECT_TRUE(blob.ok());
    EXPECT_EQ(*blob, nullptr);  // it was completed meanwhile
  });
  ASSERT_TRUE((*first)->Append("hello").ok());
  ASSERT_TRUE((*first)->Commit().ok());
  first->reset();
  second.join();
}

TEST(HubCacheTest, AnIncompleteFileThatIsALinkIsNotFollowed) {
  TempDir dir;
  const HubCache cache(dir.path());
  const HubFile file = Large("hello");
  std::filesystem::create_directories(cache.RepoDir(kRepo) + "/blobs");
  std::ofstream(dir / "victim") << "precious";
  std::filesystem::create_symlink(dir / "victim",
                                  cache.RepoDir(kRepo) + "/blobs/" + file.etag + ".incomplete");
  EXPECT_FALSE(cache.OpenPartial(kRepo, file, Go).ok());
  EXPECT_EQ(*ReadFile(dir / "victim", 100), "precious");
}

TEST(HubCacheTest, RemembersTheCommitOfARevision) {
  TempDir dir;
  const HubCache cache(dir.path());
  const std::string commit(40, 'a');
  HubListing listing;
  listing.repo = kRepo;
  listing.commit = commit;
  const HubFile file = Large("hello");
  EXPECT_EQ(cache.CommitOf(kRepo, "main").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(cache.Link(listing, file).ok());
  ASSERT_TRUE(cache.SetCommit(kRepo, "refs/pr/1", commit).ok());
  EXPECT_EQ(*cache.CommitOf(kRepo, "refs/pr/1"), commit);
  EXPECT_EQ(*cache.CommitOf(kRepo, commit), commit);
  EXPECT_FALSE(cache.CommitOf(kRepo, "../../../etc").ok());
  // A commit without a snapshot, or no commit at all, is none.
  ASSERT_TRUE(cache.SetCommit(kRepo, "gone", std::string(40, 'b')).ok());
  EXPECT_FALSE(cache.CommitOf(kRepo, "gone").ok());
  std::ofstream(cache.RepoDir(kRepo) + "/refs/bad") << "../../..";
  EXPECT_FALSE(cache.CommitOf(kRepo, "bad").ok());
}

TEST(HubCacheTest, ALinkWhoseBlobIsGoneDoesNotCount) {
  TempDir dir;
  const HubCache cache(dir.path());
  HubListing listing;
  listing.repo = kRepo;
  listing.commit = std::string(40, 'a');
  HubFile file = Large("hello");
  file.path = "deep/er/weights.bin";
  ASSERT_TRUE(cache.Link(listing, file).ok());
  EXPECT_FALSE(cache.Has(listing, file));
  EXPECT_TRUE(cache.ListSnapshot(kRepo, listing.commit)->files.empty());
  {
    const auto blob = cache.OpenPartial(kRepo, file, Go);
    ASSERT_TRUE((*blob)->Append("hello").ok());
    ASSERT_TRUE((*blob)->Commit().ok());
  }
  EXPECT_TRUE(cache.Has(listing, file));
  const auto files = cache.ListSnapshot(kRepo, listing.commit);
  ASSERT_EQ(files->files.size(), 1u);
  EXPECT_EQ(files->files[0].path, "deep/er/weights.bin");
  EXPECT_EQ(files->files[0].size, 5u);
}

TEST(HubCacheTest, SpaceIsCountedWhereTheCacheWillBe) {
  TempDir dir;
  const HubCache cache(dir / "not/yet/there");
  EXPECT_TRUE(cache.CheckSpace(1).ok());
  const absl::Status full = cache.CheckSpace(uint64_t{1} << 60);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("HF_HUB_CACHE"));
}

}  // namespace
}  // namespace featurescope
