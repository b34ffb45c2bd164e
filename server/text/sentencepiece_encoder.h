// SentencePiece's two ways to cut a text into pieces: BPE and Unigram.
//
// Characters that no piece covers become byte pieces <0xXX>. For every text, the ids are those of
// google/sentencepiece, except where a piece that stands for its text is also written like a
// control or byte piece: there the former is taken, so that no text is lost.
#pragma once

#include <memory>
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
  void AppendBytes(absl::string_view text, std::vector<uint32_t>* ids) const;

 private:
  const SentencePieceModel model_;
};

// The two encoders, which Create chooses from.
std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceBpe(SentencePieceModel model);
std::unique_ptr<const SentencePieceEncoder> MakeSentencePieceUnigram(SentencePieceModel model);

}  // namespace featurescope
