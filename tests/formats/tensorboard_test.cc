#include "server/formats/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/base/temp_dir.h"
#include "tests/formats/event_file_reader.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(TensorBoardTest, ChecksumsAreThoseOfRfc3720) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) rising.push_back(static_cast<char>(i));
  for (int i = 31; i >= 0; --i) falling.push_back(static_cast<char>(i));
  EXPECT_EQ(Crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(Crc32c(falling), 0x113fdb5cu);
  EXPECT_EQ(Crc32c(rising), SlowCrc32c(rising));
  EXPECT_EQ(MaskedCrc32c("123456789"), SlowMask(0xe3069283u));
}

TEST(TensorBoardTest, ScalarsComeBackWithStepAndTime) {
  TempDir dir;
  const absl::Time now = absl::FromUnixMillis(1'700'000'000'250);
  auto writer = TensorBoardWriter::Create(dir / "run/a", 100, now);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ(writer->path(), dir / "run/a/events.out.tfevents.1700000000.featurescope");
  ASSERT_TRUE(writer->AddScalars(100, now, {{"loss", 1.5}, {"l0", 32}}).ok());
  ASSERT_TRUE(
      writer->AddScalars(1ull << 40, now + absl::Seconds(1), {{"a name/of any sort", -1e-30}})
          .ok());
  const std::vector<Event> events = ReadEvents(writer->path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_DOUBLE_EQ(events[0].wall_time, 1'700'000'000.25);
  EXPECT_TRUE(events[1].session_start);
  EXPECT_EQ(events[1].step, 100u);
  EXPECT_EQ(events[2].step, 100u);
  EXPECT_THAT(events[2].scalars, ElementsAre(Pair("l0", 32.0f), Pair("loss", 1.5f)));
  EXPECT_EQ(events[3].step, 1ull << 40);
  EXPECT_DOUBLE_EQ(events[3].wall_time, 1'700'000'001.25);
  EXPECT_THAT(events[3].scalars, ElementsAre(Pair("a name/of any sort", -1e-30f)));
}

TEST(TensorBoardTest, ALaterStartSortsBehindWhateverTheClockSays) {
  TempDir dir;
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  std::string last;
  for (const absl::Duration after :
       {absl::ZeroDuration(), absl::ZeroDuration(), -absl::Hours(5), absl::Hours(1)}) {
    auto writer = TensorBoardWriter::Create(dir.path(), 7, now + after);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_GT(writer->path(), last);
    EXPECT_EQ(ReadEvents(writer->path())[1].step, 7u);
    last = writer->path();
  }
}

TEST(TensorBoardTest, ARestartWithinAFileIsMarked) {
  TempDir dir;
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  auto writer = TensorBoardWriter::Create(dir.path(), 0, now);
  ASSERT_TRUE(writer->AddScalars(50, now, {{"loss", 1}}).ok());
  ASSERT_TRUE(writer->Restart(40, now).ok());
  const std::vector<Event> events = ReadEvents(writer->path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_TRUE(events[3].session_start);
  EXPECT_EQ(events[3].step, 40u);
}

TEST(TensorBoardTest, ACutFileLosesItsLastRecordOnly) {
  TempDir dir;
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  auto writer = TensorBoardWriter::Create(dir.path(), 0, now);
  ASSERT_TRUE(writer->AddScalars(1, now, {{"loss", 1}}).ok());
  ASSERT_TRUE(writer->AddScalars(2, now, {{"loss", 2}}).ok());
  std::filesystem::resize_file(writer->path(), std::filesystem::file_size(writer->path()) - 3);
  const std::vector<Event> events = ReadEvents(writer->path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events.back().step, 1u);
}

TEST(TensorBoardTest, APlaceThatCannotBeWrittenIsNamed) {
  TempDir dir;
  ASSERT_TRUE(WriteFileAtomically(dir / "file", "").ok());
  const auto writer = TensorBoardWriter::Create(dir / "file/run", 0, absl::Now());
  ASSERT_FALSE(writer.ok());
  EXPECT_THAT(std::string(writer.status().message()), ::testing::HasSubstr("file"));
}

}  // namespace
}  // namespace featurescope
