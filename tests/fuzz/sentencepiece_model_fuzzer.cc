// Any bytes as a tokenizer.model: refused, or it encodes any text without loss.
//
//   input  length of the text, one byte | the text | the file without its reserved pieces
//
// The byte pieces, <unk> and settings without which every model is refused are put in front of the
// file, which can still change them; it is also read without them.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "server/text/sentencepiece_tokenizer.h"
#include "tests/text/sentencepiece_model_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  static const auto* reserved = new std::string(ReservedPieces() + TrainerField(kBpe));
  if (size == 0) return 0;
  const absl::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const absl::string_view text = input.substr(0, data[0]);
  const absl::string_view model = input.substr(text.size());
  const auto tokenizer =
      SentencePieceFromModel(*reserved + std::string(model), "tokenizer.model", SpecialTokens());
  (void)SentencePieceFromModel(std::string(model), "tokenizer.model", SpecialTokens());
  if (!tokenizer.ok()) return 0;
  for (bool parse_special : {true, false}) {
    const auto ids = (*tokenizer)->Encode(text, parse_special);
    if (!ids.ok() || (*tokenizer)->Decode(*ids) != text) abort();
    for (uint32_t id : *ids) {
      if (id >= (*tokenizer)->vocab_size()) abort();
    }
  }
  return 0;
}
