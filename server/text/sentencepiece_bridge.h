// libsentencepiece behind a plain interface.
//
// Its header declares an absl::string_view of its own, which cannot be in one file with Abseil's;
// so nothing here or in sentencepiece_bridge.cc may include Abseil.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace featurescope {

// Immutable once loaded; const and thread-safe.
class SentencePieceBridge {
 public:
  enum class PieceKind { kNormal, kUnknown, kControl, kByte, kUnused };

  // nullptr and *error when `model` is no serialised SentencePiece model.
  static std::unique_ptr<SentencePieceBridge> Load(const std::string& model, std::string* error);
  ~SentencePieceBridge();

  // Replaces *ids. False and *error when the library reports an error.
  bool Encode(std::string_view text, std::vector<int>* ids, std::string* error) const;

  int size() const;
  // REQUIRES: 0 <= id < size().
  std::string Piece(int id) const;
  PieceKind Kind(int id) const;
  // -1: the model has none.
  int bos_id() const;
  int eos_id() const;

 private:
  SentencePieceBridge();
  struct Processor;
  std::unique_ptr<Processor> processor_;
};

}  // namespace featurescope
