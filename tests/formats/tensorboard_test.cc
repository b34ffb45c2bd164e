// Event files are read back here by a reader of its own, written from the format's description.
#include "server/formats/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <vector>

#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

template <typename T>
T Load(absl::string_view bytes, size_t offset) {
  T value{};
  EXPECT_LE(offset + sizeof(T), bytes.size());
  if (offset + sizeof(T) <= bytes.size()) memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// CRC-32C bit by bit.
uint32_t SlowCrc32c(absl::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool differs = ((crc & 1) != 0) != ((static_cast<uint8_t>(c) >> bit & 1) != 0);
      crc >>= 1;
      if (differs) crc ^= 0x82f63b78;
    }
  }
  return crc ^ 0xffffffff;
}

uint32_t SlowMask(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;       // varint, fixed32 and fixed64
  absl::string_view bytes;  // length-delimited
};

uint64_t ReadVarint(absl::string_view* in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(in->front());
    in->remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  ADD_FAILURE() << "a varint does not end";
  return value;
}

std::vector<Field> ReadMessage(absl::string_view in) {
  std::vector<Field> fields;
  while (!in.empty()) {
    const uint64_t tag = ReadVarint(&in);
    Field field;
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0:
        field.value = ReadVarint(&in);
        break;
      case 1:
        field.value = Load<uint64_t>(in, 0);
        in.remove_prefix(std::min<size_t>(8, in.size()));
        break;
      case 5:
        field.value = Load<uint32_t>(in, 0);
        in.remove_prefix(std::min<size_t>(4, in.size()));
        break;
      case 2: {
        const uint64_t size = ReadVarint(&in);
        EXPECT_LE(size, in.size());
        field.bytes = in.substr(0, size);
        in.remove_prefix(field.bytes.size());
        break;
      }
      default:
        ADD_FAILURE() << "wire type " << (tag & 7);
        return fields;
    }
    fields.push_back(field);
  }
  return fields;
}

struct Event {
  double wall_time = 0;
  uint64_t step = 0;
  std::string version;
  bool session_start = false;
  std::map<std::string, float> scalars;
};

Event ReadEvent(absl::string_view message) {
  Event event;
  for (const Field& field : ReadMessage(message)) {
    if (field.number == 1) memcpy(&event.wall_time, &field.value, 8);
    if (field.number == 2) event.step = field.value;
    if (field.number == 3) event.version = std::string(field.bytes);
    if (field.number == 7) {
      for (const Field& of_log : ReadMessage(field.bytes)) {
        event.session_start |= of_log.number == 1 && of_log.value == 1;
      }
    }
    if (field.number != 5) continue;
    for (const Field& value : ReadMessage(field.bytes)) {
      EXPECT_EQ(value.number, 1u);
      std::string tag;
      float number = std::nanf("");
      for (const Field& part : ReadMessage(value.bytes)) {
        if (part.number == 1) tag = std::string(part.bytes);
        if (part.number == 2) memcpy(&number, &part.value, 4);
      }
      event.scalars[tag] = number;
    }
  }
  return event;
}

// All whole records, checked.
std::vector<Event> ReadEvents(const std::string& path) {
  const std::string file = ReadFile(path, 1 << 20).value();
  absl::string_view rest = file;
  std::vector<Event> events;
  while (rest.size() >= 16) {
    const uint64_t length = Load<uint64_t>(rest, 0);
    EXPECT_EQ(Load<uint32_t>(rest, 8), SlowMask(SlowCrc32c(rest.substr(0, 8))));
    if (length > rest.size() - 16) break;
    const absl::string_view message = rest.substr(12, length);
    EXPECT_EQ(Load<uint32_t>(rest, 12 + length), SlowMask(SlowCrc32c(message)));
    events.push_back(ReadEvent(message));
    rest.remove_prefix(16 + length);
  }
  return events;
}

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
