#include "server/text/protobuf_wire.h"

#include <bit>

namespace featurescope {
namespace {

bool ReadVarint(absl::string_view* in, uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(in->front());
    in->remove_prefix(1);
    *value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

}  // namespace

bool ReadWireField(absl::string_view* message, WireField* field) {
  uint64_t tag = 0;
  if (!ReadVarint(message, &tag) || tag > UINT32_MAX) return false;
  *field = WireField{};
  field->number = tag >> 3;
  field->type = static_cast<WireField::Type>(tag & 7);
  if (field->number == 0) return false;
  uint64_t length = 0;
  switch (field->type) {
    case WireField::Type::kVarint:
      return ReadVarint(message, &field->varint);
    case WireField::Type::kFixed64:
      length = 8;
      break;
    case WireField::Type::kBytes:
      if (!ReadVarint(message, &length)) return false;
      break;
    case WireField::Type::kFixed32:
      length = 4;
      break;
    default:
      return false;
  }
  if (length > message->size()) return false;
  field->bytes = message->substr(0, length);
  message->remove_prefix(length);
  return true;
}

float WireFloat(const WireField& field) {
  uint32_t bits = 0;
  for (size_t i = 0; i < field.bytes.size() && i < 4; ++i) {
    bits |= uint32_t{static_cast<uint8_t>(field.bytes[i])} << (8 * i);
  }
  return std::bit_cast<float>(bits);
}

}  // namespace featurescope
