#include "server/formats/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/hash.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

TEST(FileTest, ReadsTheWholeFileOrSaysWhyNot) {
  TempDir dir;
  const std::string bytes("a\0b\n", 4);
  WriteBytes(dir / "f", bytes);
  EXPECT_EQ(*ReadFile(dir / "f", 4), bytes);
  EXPECT_EQ(ReadFile(dir / "f", 3).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFile(dir / "g", 3).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadFile(dir.path(), 3).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFile("/dev/zero", 3).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(FileTest, APipeInAFilesPlaceDoesNotBlock) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadFile(dir / "pipe", 10).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(FileTest, AnAtomicFileIsThereOnlyWhenCommitted) {
  TempDir dir;
  WriteBytes(dir / "f", "old");
  {
    AtomicFile file = *AtomicFile::Create(dir / "f");
    ASSERT_TRUE(file.Append("new").ok());
    EXPECT_EQ(ReadBytes(dir / "f"), "old");
  }
  EXPECT_EQ(ReadBytes(dir / "f"), "old");
  EXPECT_FALSE(fs::exists(dir / "f.tmp"));
  {
    WriteBytes(dir / "f.tmp", "left by a killed process");
    AtomicFile file = *AtomicFile::Create(dir / "f");
    const std::string large(3 << 20, 'x');
    ASSERT_TRUE(file.Append("new").ok());
    ASSERT_TRUE(file.Append(large).ok());
    ASSERT_TRUE(file.Append("end").ok());
    AtomicFile moved = std::move(file);
    ASSERT_TRUE(moved.Commit().ok());
    EXPECT_EQ(ReadBytes(dir / "f"), "new" + large + "end");
  }
  EXPECT_FALSE(fs::exists(dir / "f.tmp"));
}

TEST(FileTest, AFullDiskIsResourceExhaustedNamingTheFile) {
  const int full = open("/dev/full", O_WRONLY);
  if (full < 0) GTEST_SKIP() << "no /dev/full here";
  close(full);
  TempDir dir;
  AtomicFile file = *AtomicFile::Create(dir / "weights");
  // The temporary file, already open, is replaced below its name by a device that is always full.
  const std::string temporary = dir / "weights.tmp";
  bool replaced = false;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (fs::read_symlink(entry.path(), error) != temporary || error) continue;
    const int device = open("/dev/full", O_WRONLY);
    replaced = dup2(device, std::stoi(entry.path().filename().string())) >= 0;
    close(device);
    break;
  }
  ASSERT_TRUE(replaced);
  const absl::Status status = file.Append(std::string(4 << 20, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir / "weights"));
}

TEST(FileTest, EnsureDirMakesParentsForTheOwnerOnly) {
  TempDir dir;
  const std::string deep = dir / "a/b/c";
  ASSERT_TRUE(EnsureDir(deep).ok());
  ASSERT_TRUE(EnsureDir(deep).ok());
  EXPECT_EQ(fs::status(deep).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(dir / "a").permissions(), fs::perms::owner_all);
  WriteBytes(dir / "file", "");
  EXPECT_FALSE(EnsureDir(dir / "file").ok());
  EXPECT_FALSE(EnsureDir(dir / "file/x").ok());
  EXPECT_FALSE(EnsureDir("").ok());
}

TEST(FileTest, HashOfAFileIsTheHashOfItsBytes) {
  TempDir dir;
  for (size_t size : {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{1} << 20) + 17}) {
    const std::string bytes(size, 'q');
    WriteBytes(dir / "f", bytes);
    EXPECT_EQ(*Sha256OfFile(dir / "f"), Sha256Hex(bytes)) << size;
  }
}

TEST(FileTest, ResolvedPathsStayWithinTheirRoots) {
  TempDir dir;
  fs::create_directories(dir / "root/models");
  fs::create_directories(dir / "rootless");
  fs::create_directories(dir / "other");
  WriteBytes(dir / "root/models/w", "");
  WriteBytes(dir / "other/secret", "");
  fs::create_symlink("../../other/secret", dir / "root/models/out");
  fs::create_symlink("models", dir / "root/in");
  fs::create_symlink(dir / "root", dir / "link");
  const std::vector<std::string> roots = {dir / "root"};
  const std::string canonical = fs::canonical(dir / "root").string();

  EXPECT_EQ(*ResolveWithin(roots, dir / "root/models/w"), canonical + "/models/w");
  EXPECT_EQ(*ResolveWithin(roots, dir / "root/in/../models/./w"), canonical + "/models/w");
  EXPECT_EQ(*ResolveWithin(roots, dir / "root"), canonical);
  EXPECT_EQ(*ResolveWithin({dir / "link/"}, dir / "root/models"), canonical + "/models");
  for (const char* path : {"root/models/out", "root/../other/secret", "rootless", "other", ""}) {
    EXPECT_EQ(ResolveWithin(roots, dir / path).status().code(), absl::StatusCode::kPermissionDenied)
        << path;
  }
  EXPECT_EQ(ResolveWithin(roots, dir / "root/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(ResolveWithin({}, dir / "root").ok());
  EXPECT_FALSE(ResolveWithin(roots, (dir / "root") + std::string("\0x", 2)).ok());
}

}  // namespace
}  // namespace featurescope
