#include "server/text/sentencepiece_model.h"

#include <cstdint>

#include "server/base/status.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

// ModelProto
constexpr uint64_t kTrainerSpec = 2;
constexpr uint64_t kNormalizerSpec = 3;
constexpr uint64_t kSelfTestData = 4;
// TrainerSpec
constexpr uint64_t kTreatWhitespaceAsSuffix = 24;
// NormalizerSpec
constexpr uint64_t kName = 1;
constexpr uint64_t kPrecompiledCharsMap = 2;
constexpr uint64_t kAddDummyPrefix = 3;
constexpr uint64_t kRemoveExtraWhitespaces = 4;
constexpr uint64_t kEscapeWhitespaces = 5;

// One field of a message.
struct Field {
  uint64_t number = 0;
  uint64_t value = 0;       // varint
  absl::string_view bytes;  // length-delimited
  absl::string_view whole;  // tag and content
};

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

bool ReadField(absl::string_view* in, Field* field) {
  const absl::string_view start = *in;
  uint64_t tag = 0;
  if (!ReadVarint(in, &tag)) return false;
  *field = Field{};
  field->number = tag >> 3;
  uint64_t length = 0;
  switch (tag & 7) {
    case 0:
      if (!ReadVarint(in, &field->value)) return false;
      break;
    case 1:
      length = 8;
      break;
    case 2:
      if (!ReadVarint(in, &length)) return false;
      break;
    case 5:
      length = 4;
      break;
    default:
      return false;
  }
  if (length > in->size()) return false;
  field->bytes = in->substr(0, length);
  in->remove_prefix(length);
  field->whole = start.substr(0, start.size() - in->size());
  return true;
}

struct NormalizerSettings {
  std::string name = "nmt_nfkc";
  bool has_chars_map = false;
  bool add_dummy_prefix = true;
  bool escape_whitespaces = true;
};

bool ReadNormalizer(absl::string_view message, NormalizerSettings* settings) {
  Field field;
  while (!message.empty()) {
    if (!ReadField(&message, &field)) return false;
    if (field.number == kName) settings->name = std::string(field.bytes);
    if (field.number == kPrecompiledCharsMap) settings->has_chars_map = !field.bytes.empty();
    if (field.number == kAddDummyPrefix) settings->add_dummy_prefix = field.value != 0;
    if (field.number == kEscapeWhitespaces) settings->escape_whitespaces = field.value != 0;
  }
  return true;
}

bool ReadTrainer(absl::string_view message, bool* whitespace_as_suffix) {
  Field field;
  while (!message.empty()) {
    if (!ReadField(&message, &field)) return false;
    if (field.number == kTreatWhitespaceAsSuffix) *whitespace_as_suffix = field.value != 0;
  }
  return true;
}

}  // namespace

absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(absl::string_view content,
                                                          const std::string& path) {
  SentencePieceModel model;
  NormalizerSettings normalizer;
  bool whitespace_as_suffix = false;
  while (!content.empty()) {
    Field field;
    bool ok = ReadField(&content, &field);
    if (ok && field.number == kNormalizerSpec) ok = ReadNormalizer(field.bytes, &normalizer);
    if (ok && field.number == kTrainerSpec) ok = ReadTrainer(field.bytes, &whitespace_as_suffix);
    if (!ok) return InvalidArgument(path, ": no SentencePiece model (malformed Protobuf)");
    // The self test was recorded with the settings that are changed here.
    if (field.number != kSelfTestData) {
      model.keeping_spaces.append(field.whole.data(), field.whole.size());
    }
  }
  if (normalizer.has_chars_map || !normalizer.escape_whitespaces || whitespace_as_suffix) {
    return Unimplemented(path, ": normalizer \"", PrintableUtf8(normalizer.name, 60),
                         "\" changes texts (character map ", normalizer.has_chars_map,
                         ", escape_whitespaces ", normalizer.escape_whitespaces,
                         ", treat_whitespace_as_suffix ", whitespace_as_suffix,
                         ") and is not supported");
  }
  model.add_dummy_prefix = normalizer.add_dummy_prefix;
  // A repeated message field is merged into the first one.
  static constexpr char kKeepSpaces[] = {kNormalizerSpec << 3 | 2,     4, kAddDummyPrefix << 3, 0,
                                         kRemoveExtraWhitespaces << 3, 0};
  model.keeping_spaces.append(kKeepSpaces, sizeof(kKeepSpaces));
  return model;
}

}  // namespace featurescope
