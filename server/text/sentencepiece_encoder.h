// SentencePiece's two ways to cut a text into pieces: BPE and Unigram.
//
// Characters that no piece covers become byte pieces <0xXX>. The ids are those of
// google/sentencepiece, except where it would lose text: a space that no piece covers is its own
// byte, not those of U+2581, and a piece that stands for its text goes before a control or byte
// piece that is written like it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/text/sentencepiece_model.h"

namespace featurescope {

// Immutable; const and thread-safe.
class SentencePieceEncoder {
 public:
  // An encoder for the model's algorithm.
  static std::unique_ptr<const SentencePieceEncoder> Create(SentencePieceModel model);

  virtual ~SentencePieceEncoder() = default;

  // Appends the ids of `text` to *ids. REQUIRES: text is valid UTF-8 without U+2581; at most
  // kMaxWordBytes (server/text/tokenizer.h).
  void Encode(absl::string_view text, std::vector<uint32_t>* ids) const;

  const SentencePieceModel& model() const { return model_; }

 protected:
  explicit SentencePieceEncoder(SentencePieceModel model) : model_(std::move(model)) {}
  // `text` writes spaces as pieces do and is not empty.
  virtual void EncodeMarked(absl::string_view text, std::vector<uint32_t>* ids) const = 0;
  // The byte pieces of one character that has no piece.
  void AppendCharacter(absl::string_view character, std::vector<uint32_t>* ids) const;

 private:
  const SentencePieceModel model_;
};

// The two encoders, which Create chooses from.
std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceBpe(SentencePieceModel model);
std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceUnigram(SentencePieceModel model);

}  // namespace featurescope
