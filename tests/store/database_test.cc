#include "server/store/database.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <vector>

#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kApplication = 77;
constexpr Migration kFirst[] = {{"CREATE TABLE t(x INTEGER NOT NULL)"}};
constexpr Migration kSecond[] = {{"CREATE TABLE t(x INTEGER NOT NULL)"},
                                 {"ALTER TABLE t ADD COLUMN y INTEGER NOT NULL DEFAULT 5"}};

std::unique_ptr<Database> Open(const std::string& path, OpenMode mode) {
  auto db = Database::Open(path, mode);
  EXPECT_TRUE(db.ok()) << db.status();
  return *std::move(db);
}

TEST(DatabaseTest, ValuesComeBackAsTheyWereBound) {
  const TempDir dir;
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  ASSERT_TRUE(db->Execute("CREATE TABLE t(i, d, s, b, n)").ok());
  const std::string blob("\0\xff z", 4);
  {
    auto insert = db->Prepare("INSERT INTO t VALUES(?, ?, ?, ?, ?)");
    ASSERT_TRUE(insert.ok());
    insert->Bind(1, int64_t{-5}).Bind(2, 0.1).BindText(3, "text").BindBlob(4, blob).BindNull(5);
    ASSERT_TRUE(insert->Run().ok());
  }
  auto select = db->Prepare("SELECT * FROM t");
  ASSERT_TRUE(select->Step().value());
  EXPECT_EQ(select->Int(0), -5);
  EXPECT_EQ(select->Double(1), 0.1);
  EXPECT_EQ(select->Text(2), "text");
  EXPECT_EQ(select->Blob(3), blob);
  EXPECT_TRUE(select->IsNull(4));
  EXPECT_FALSE(select->Step().value());
}

TEST(DatabaseTest, ErrorsNameTheFileAndTheStatement) {
  const TempDir dir;
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  const absl::Status status = db->Prepare("SELECT nothing FROM nowhere").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir / "a.db"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("SELECT nothing FROM nowhere"));
}

TEST(DatabaseTest, MigrationsRunOnceEachAndKeepTheRows) {
  const TempDir dir;
  {
    const auto db = Open(dir / "a.db", OpenMode::kWriter);
    ASSERT_TRUE(db->Migrate(kFirst, kApplication).ok());
    ASSERT_TRUE(db->Execute("INSERT INTO t VALUES(1)").ok());
  }
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  ASSERT_TRUE(db->Migrate(kSecond, kApplication).ok());
  ASSERT_TRUE(db->Migrate(kSecond, kApplication).ok());
  EXPECT_EQ(db->QueryInt("SELECT x * 10 + y FROM t").value(), 15);
}

TEST(DatabaseTest, AFailedMigrationLeavesTheVersionBefore) {
  const TempDir dir;
  constexpr Migration kBad[] = {{"CREATE TABLE t(x)"}, {"CREATE TABLE u(x); SELECT * FROM none"}};
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  EXPECT_FALSE(db->Migrate(kBad, kApplication).ok());
  EXPECT_EQ(db->QueryInt("PRAGMA user_version").value(), 1);
  EXPECT_EQ(db->QueryInt("SELECT count(*) FROM sqlite_schema WHERE name='u'").value(), 0);
}

TEST(DatabaseTest, NewerVersionsAndStrangeFilesAreRefused) {
  const TempDir dir;
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  ASSERT_TRUE(db->Migrate(kSecond, kApplication).ok());
  const absl::Status newer = db->Migrate(kFirst, kApplication);
  EXPECT_TRUE(absl::IsFailedPrecondition(newer)) << newer;
  EXPECT_THAT(std::string(newer.message()), HasSubstr("newer version"));
  EXPECT_TRUE(absl::IsFailedPrecondition(db->Migrate(kSecond, kApplication + 1)));
}

TEST(DatabaseTest, ReadersCannotWriteAndSeeCommittedRows) {
  const TempDir dir;
  const auto writer = Open(dir / "a.db", OpenMode::kWriter);
  ASSERT_TRUE(writer->Migrate(kFirst, kApplication).ok());
  const auto reader = Open(dir / "a.db", OpenMode::kReader);
  EXPECT_FALSE(reader->Execute("INSERT INTO t VALUES(1)").ok());
  ASSERT_TRUE(writer->Execute("INSERT INTO t VALUES(1)").ok());
  EXPECT_EQ(reader->QueryInt("SELECT count(*) FROM t").value(), 1);
}

TEST(DatabaseTest, AMissingFileIsNotFoundForReaders) {
  const TempDir dir;
  EXPECT_TRUE(absl::IsNotFound(Database::Open(dir / "a.db", OpenMode::kReader).status()));
  EXPECT_TRUE(absl::IsNotFound(Database::Open(dir / "a.db", OpenMode::kImmutable).status()));
}

TEST(DatabaseTest, PathsWithUriSyntaxAreTakenLiterally) {
  const TempDir dir;
  const std::string path = dir / "a?mode=memory#x%20.db";
  Open(path, OpenMode::kWriter)->Execute("CREATE TABLE t(x)").IgnoreError();
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  EXPECT_TRUE(Database::Open(path, OpenMode::kImmutable).ok());
}

TEST(DatabaseTest, AFileThatIsNoDatabaseIsDataLoss) {
  const TempDir dir;
  std::ofstream(dir / "a.db") << std::string(8192, 'x');
  const auto db = Database::Open(dir / "a.db", OpenMode::kWriter);
  EXPECT_TRUE(absl::IsDataLoss(db.status())) << db.status();
}

TEST(DatabaseTest, ATransactionThatIsNotCommittedLeavesNothing) {
  const TempDir dir;
  const auto db = Open(dir / "a.db", OpenMode::kWriter);
  ASSERT_TRUE(db->Migrate(kFirst, kApplication).ok());
  {
    auto transaction = Transaction::Begin(db.get());
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(db->Execute("INSERT INTO t VALUES(1)").ok());
  }
  EXPECT_EQ(db->QueryInt("SELECT count(*) FROM t").value(), 0);
}

// A file size limit stands for the full disk; in a child, since it cannot be taken back.
TEST(DatabaseTest, AFullDiskIsResourceExhaustedAndLosesNoCommittedRow) {
  const TempDir dir;
  const std::string path = dir / "a.db";
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    auto db = Database::Open(path, OpenMode::kWriter);
    if (!db.ok() || !(*db)->Migrate(kFirst, kApplication).ok()) ::_exit(1);
    const rlimit limit{200000, 200000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int64_t committed = 0;
    while (committed < 10000) {
      const absl::Status status = (*db)->Execute("INSERT INTO t VALUES(1)");
      if (!status.ok()) {
        if (!absl::IsResourceExhausted(status)) ::_exit(2);
        break;
      }
      ++committed;
    }
    std::ofstream(dir / "committed") << committed;
    ::_exit(committed > 0 && committed < 10000 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0);
  int64_t committed = -1;
  std::ifstream(dir / "committed") >> committed;
  const auto db = Open(path, OpenMode::kWriter);
  EXPECT_EQ(db->QueryInt("SELECT count(*) FROM t").value(), committed);
  EXPECT_TRUE(db->QuickCheck().ok());
}

}  // namespace
}  // namespace featurescope
