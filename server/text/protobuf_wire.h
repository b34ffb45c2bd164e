// The Protobuf wire format, one field at a time, for the one message that is read by hand.
//
// Source: protobuf.dev/programming-guides/encoding.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace featurescope {

// One field of a message; of the three values, the one of its wire type is set.
struct WireField {
  enum class Type { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint64_t number = 0;
  Type type = Type::kVarint;
  uint64_t varint = 0;
  absl::string_view bytes;  // of any type but kVarint
};

// Takes the first field off *message; false when it is malformed. Groups count as malformed.
// REQUIRES: *message is not empty.
bool ReadWireField(absl::string_view* message, WireField* field);

// The value of a kFixed32 field as a float.
float WireFloat(const WireField& field);

}  // namespace featurescope
