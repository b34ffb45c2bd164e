// Reads TensorBoard's event files: a reader of the tests' own, written from the format's
// description.
#pragma once

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/formats/file.h"

namespace featurescope {

template <typename T>
T LoadAt(absl::string_view bytes, size_t offset) {
  T value{};
  EXPECT_LE(offset + sizeof(T), bytes.size());
  if (offset + sizeof(T) <= bytes.size()) memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// CRC-32C bit by bit.
inline uint32_t SlowCrc32c(absl::string_view bytes) {
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

inline uint32_t SlowMask(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

struct EventField {
  uint64_t number = 0;
  uint64_t value = 0;       // varint, fixed32 and fixed64
  absl::string_view bytes;  // length-delimited
};

inline uint64_t ReadVarint(absl::string_view* in) {
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

inline std::vector<EventField> ReadMessage(absl::string_view in) {
  std::vector<EventField> fields;
  while (!in.empty()) {
    const uint64_t tag = ReadVarint(&in);
    EventField field;
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0:
        field.value = ReadVarint(&in);
        break;
      case 1:
        field.value = LoadAt<uint64_t>(in, 0);
        in.remove_prefix(std::min<size_t>(8, in.size()));
        break;
      case 5:
        field.value = LoadAt<uint32_t>(in, 0);
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

inline Event ReadEvent(absl::string_view message) {
  Event event;
  for (const EventField& field : ReadMessage(message)) {
    if (field.number == 1) memcpy(&event.wall_time, &field.value, 8);
    if (field.number == 2) event.step = field.value;
    if (field.number == 3) event.version = std::string(field.bytes);
    if (field.number == 7) {
      for (const EventField& of_log : ReadMessage(field.bytes)) {
        event.session_start |= of_log.number == 1 && of_log.value == 1;
      }
    }
    if (field.number != 5) continue;
    for (const EventField& value : ReadMessage(field.bytes)) {
      EXPECT_EQ(value.number, 1u);
      std::string tag;
      float number = std::nanf("");
      for (const EventField& part : ReadMessage(value.bytes)) {
        if (part.number == 1) tag = std::string(part.bytes);
        if (part.number == 2) memcpy(&number, &part.value, 4);
      }
      event.scalars[tag] = number;
    }
  }
  return event;
}

// All whole records, checked.
inline std::vector<Event> ReadEvents(const std::string& path) {
  const std::string file = ReadFile(path, 1 << 20).value();
  absl::string_view rest = file;
  std::vector<Event> events;
  while (rest.size() >= 16) {
    const uint64_t length = LoadAt<uint64_t>(rest, 0);
    EXPECT_EQ(LoadAt<uint32_t>(rest, 8), SlowMask(SlowCrc32c(rest.substr(0, 8))));
    if (length > rest.size() - 16) break;
    const absl::string_view message = rest.substr(12, length);
    EXPECT_EQ(LoadAt<uint32_t>(rest, 12 + length), SlowMask(SlowCrc32c(message)));
    events.push_back(ReadEvent(message));
    rest.remove_prefix(16 + length);
  }
  return events;
}

}  // namespace featurescope
