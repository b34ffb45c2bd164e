// A serialised SentencePiece model (tokenizer.model): its pieces and the settings that matter.
//
// Reads the Protobuf wire format directly, so that nothing here needs a Protobuf library.
// Source: google/sentencepiece, src/sentencepiece_model.proto.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

// How pieces write a space: U+2581.
constexpr absl::string_view kSpaceMark = "\xe2\x96\x81";

struct SentencePiece {
  enum class Type {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,  // never split, never merged with what is beside it
    kUnused = 5,       // takes part in merging but is not a result of it
    kByte = 6,
  };
  std::string text;  // valid UTF-8, not empty
  float score = 0;   // finite
  Type type = Type::kNormal;

  // Whether it can stand for its text; the others stand for something else.
  bool is_text() const {
    return type == Type::kNormal || type == Type::kUserDefined || type == Type::kUnused;
  }
};

struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2 };
  Algorithm algorithm = Algorithm::kUnigram;
  std::vector<SentencePiece> pieces;  // by id; texts that stand for themselves occur once
  std::array<uint32_t, 256> byte_ids{};
  uint32_t unk_id = 0;
  std::optional<uint32_t> bos_id;
  std::optional<uint32_t> eos_id;
  // Whether texts get a space in front.
  bool add_dummy_prefix = true;
};

// Reads and checks a model. `path` is for messages.
//
//   Unimplemented    a word or character model; a model that cannot keep every text: without byte
//                    fallback, or with a normalizer or whitespace setting that changes it
//   InvalidArgument  no well-formed model
absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(absl::string_view content,
                                                          const std::string& path);

}  // namespace featurescope
