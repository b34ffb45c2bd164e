// Serialised SentencePiece models, written by hand.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace featurescope {

inline std::string WireVarint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<char>(value | 128));
  return bytes + static_cast<char>(value);
}
inline std::string BytesField(int number, const std::string& bytes) {
  return WireVarint(static_cast<uint64_t>(number) << 3 | 2) + WireVarint(bytes.size()) + bytes;
}
inline std::string VarintField(int number, uint64_t value) {
  return WireVarint(static_cast<uint64_t>(number) << 3) + WireVarint(value);
}
inline std::string FloatField(int number, float value) {
  std::string bits(4, '\0');
  std::memcpy(&bits[0], &value, 4);
  return WireVarint(static_cast<uint64_t>(number) << 3 | 5) + bits;
}

constexpr int kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;
constexpr int kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4;

// One piece of a ModelProto.
inline std::string PieceField(const std::string& text, int type, float score) {
  return BytesField(1, BytesField(1, text) + FloatField(2, score) + VarintField(3, type));
}

// <unk>, <s>, </s> and 256 bytes: the pieces 0 to 258.
inline std::string ReservedPieces() {
  std::string pieces = PieceField("<unk>", kUnknown, 0) + PieceField("<s>", kControl, 0) +
                       PieceField("</s>", kControl, 0);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    snprintf(text, sizeof(text), "<0x%02X>", byte);
    pieces += PieceField(text, kByte, 0);
  }
  return pieces;
}
inline std::string TrainerField(int model_type, bool byte_fallback = true) {
  return BytesField(2, VarintField(3, model_type) + VarintField(35, byte_fallback));
}
// A field that is merged into the normalizer a model has: spaces are neither added nor dropped.
inline std::string KeepSpacesField() {
  return BytesField(3, VarintField(3, 0) + VarintField(4, 0));
}

}  // namespace featurescope
