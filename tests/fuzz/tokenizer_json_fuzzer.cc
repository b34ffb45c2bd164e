// Any bytes as a tokenizer.json: refused, or it encodes any text without loss.
//
//   input  the file | NUL | a text

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "server/text/byte_level_bpe.h"
#include "server/text/display.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  const absl::string_view text =
      nul == absl::string_view::npos ? absl::string_view() : input.substr(nul + 1);
  SpecialTokens special;
  special.bos_token = "<|end|>";
  const auto tokenizer = ByteLevelBpeFromJson(input.substr(0, nul), "tokenizer.json", special);
  if (!tokenizer.ok()) return 0;
  for (bool parse_special : {true, false}) {
    const auto ids = (*tokenizer)->Encode(text, parse_special);
    if (!ids.ok() || (*tokenizer)->Decode(*ids) != text) abort();
    for (uint32_t id : *ids) {
      if (id >= (*tokenizer)->vocab_size()) abort();
      (void)DisplayToken((*tokenizer)->TokenBytes(id));
    }
  }
  return 0;
}
