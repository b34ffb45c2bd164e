// libsentencepiece behind a plain interface: what server/text's own encoders are compared with.
//
// Its header declares an absl::string_view of its own, which cannot be in one file with Abseil's;
// so nothing here or in sentencepiece_library.cc may include Abseil.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace featurescope {

class SentencePieceLibrary {
 public:
  // nullptr and *error when `model` is no serialised SentencePiece model.
  static std::unique_ptr<SentencePieceLibrary> Load(const std::string& model, std::string* error);
  ~SentencePieceLibrary();

  // The library's ids of `text`. False and *error when it reports an error.
  bool Encode(const std::string& text, std::vector<uint32_t>* ids, std::string* error) const;

  // -1: the model has none.
  int bos_id() const;
  int eos_id() const;

 private:
  SentencePieceLibrary();
  struct Processor;
  std::unique_ptr<Processor> processor_;
};

}  // namespace featurescope
