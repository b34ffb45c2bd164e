#include "server/text/sentencepiece_model.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/protobuf_wire.h"
#include "tests/text/sentencepiece_model_bytes.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

const std::string& End() {
  static const auto* end =
      new std::string(TrainerField(kBpe) + BytesField(3, BytesField(1, "identity")));
  return *end;
}

std::string Error(const std::string& model) {
  return std::string(ReadSentencePieceModel(model, "dir/tokenizer.model").status().ToString());
}

TEST(SentencePieceModelTest, PiecesAndSettingsAreRead) {
  const auto model = ReadSentencePieceModel(
      ReservedPieces() + PieceField("ab", kNormal, -1.5f) + PieceField("xy", kUserDefined, 0) +
          BytesField(1, BytesField(1, "d")) + PieceField("[B]", kControl, 0) +
          BytesField(2, BytesField(46, "[B]")) + End() + BytesField(3, VarintField(3, 0)) +
          BytesField(4, "self test") + VarintField(200, 7),
      "dir/tokenizer.model");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->pieces.size(), 263u);
  EXPECT_EQ(model->pieces[259].text, "ab");
  EXPECT_EQ(model->pieces[259].score, -1.5f);
  EXPECT_EQ(model->pieces[260].type, SentencePiece::Type::kUserDefined);
  EXPECT_EQ(model->pieces[261].type, SentencePiece::Type::kNormal);
  EXPECT_EQ(model->algorithm, SentencePieceModel::Algorithm::kBpe);
  EXPECT_EQ(model->unk_id, 0u);
  EXPECT_EQ(model->bos_id, 262u);
  EXPECT_EQ(model->eos_id, 2u);
  EXPECT_EQ(model->byte_ids[0x0a], 3u + 0x0a);
  EXPECT_FALSE(model->add_dummy_prefix);
}

TEST(SentencePieceModelTest, WordAndCharacterModelsAreRefusedByName) {
  EXPECT_THAT(Error(ReservedPieces() + TrainerField(kWord)), HasSubstr("model_type WORD"));
  EXPECT_THAT(Error(ReservedPieces() + TrainerField(kChar)), HasSubstr("model_type CHAR"));
  EXPECT_THAT(Error(ReservedPieces() + TrainerField(9)), HasSubstr("model_type 9 is unknown"));
}

TEST(SentencePieceModelTest, BadPiecesAreNamed) {
  const auto error = [](const std::string& pieces) {
    return Error(ReservedPieces() + pieces + End());
  };
  EXPECT_THAT(error(PieceField("", kNormal, 0)), HasSubstr("piece 259 is empty"));
  EXPECT_THAT(error(PieceField("\xff", kNormal, 0)), HasSubstr("no valid UTF-8"));
  EXPECT_THAT(error(PieceField("a", 7, 0)), HasSubstr("type 7, allowed are 1 to 6"));
  EXPECT_THAT(error(PieceField("a", kNormal, std::numeric_limits<float>::quiet_NaN())),
              HasSubstr("piece 259 \"a\" has score nan"));
  EXPECT_THAT(error(PieceField(std::string(600, 'a'), kNormal, 0)), HasSubstr("600 bytes"));
  EXPECT_THAT(error(PieceField("a", kNormal, 0) + PieceField("a", kUnused, 0)),
              HasSubstr("piece 260 \"a\" is piece 259 already"));
  EXPECT_THAT(error(PieceField("<u>", kUnknown, 0)), HasSubstr("both have type UNKNOWN"));
  EXPECT_THAT(error(PieceField("<0x1>", kByte, 0)), HasSubstr("not written as a byte"));
  EXPECT_THAT(error(BytesField(1, VarintField(1, 5))), HasSubstr("wire type 0, not 2"));
}

TEST(SentencePieceModelTest, WhatIsMissingIsNamed) {
  EXPECT_THAT(Error(""), HasSubstr("byte_fallback"));
  EXPECT_THAT(Error(End()), HasSubstr("no piece has type UNKNOWN"));
  EXPECT_THAT(Error(PieceField("<unk>", kUnknown, 0) + End()), HasSubstr("byte 0 has no piece"));
  EXPECT_THAT(Error(ReservedPieces() + TrainerField(kBpe, false)), HasSubstr("byte_fallback"));
}

TEST(SentencePieceModelTest, MalformedMessagesAreRefused) {
  for (const std::string& bytes :
       {std::string("\x0a\x05"), std::string("\x0b\x0c"), std::string("\x00\x00", 2),
        std::string("\x0a"), std::string(11, '\xff'), std::string("\x0a\x02\x15\x01")}) {
    EXPECT_THAT(Error(bytes), HasSubstr("dir/tokenizer.model: no SentencePiece model (malformed"));
  }
}

TEST(ProtobufWireTest, FieldsOfAllTypesAreRead) {
  const std::string message = VarintField(5, ~uint64_t{0}) + FloatField(16, -2.5f) +
                              BytesField(1 << 28, "bytes") + std::string("\x09") + "12345678";
  absl::string_view rest = message;
  WireField field;
  ASSERT_TRUE(ReadWireField(&rest, &field));
  EXPECT_EQ(field.number, 5u);
  EXPECT_EQ(field.varint, ~uint64_t{0});
  ASSERT_TRUE(ReadWireField(&rest, &field));
  EXPECT_EQ(WireFloat(field), -2.5f);
  ASSERT_TRUE(ReadWireField(&rest, &field));
  EXPECT_EQ(field.number, 1u << 28);
  EXPECT_EQ(field.bytes, "bytes");
  ASSERT_TRUE(ReadWireField(&rest, &field));
  EXPECT_EQ(field.type, WireField::Type::kFixed64);
  EXPECT_EQ(field.bytes, "12345678");
  EXPECT_TRUE(rest.empty());
}

}  // namespace
}  // namespace featurescope
