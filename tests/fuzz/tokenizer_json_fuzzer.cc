// Any bytes as a tokenizer.json: refused, or it encodes any text, without loss where it says so.
//
//   input  the file | NUL | a text

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "server/text/display.h"
#include "server/text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  const absl::string_view text =
      nul == absl::string_view::npos ? absl::string_view() : input.substr(nul + 1);
  SpecialTokens special;
  special.bos_token = "<|end|>";
  const auto tokenizer = TokenizerFromJson(input.substr(0, nul), "tokenizer.json", special);
  if (!tokenizer.ok()) return 0;
  for (bool parse_special : {true, false}) {
    const auto ids = (*tokenizer)->Encode(text, parse_special);
    // A regular expression may be refused at run time, never more.
    if (!ids.ok()) {
      if (!absl::IsResourceExhausted(ids.status())) abort();
      continue;
    }
    const std::string decoded = (*tokenizer)->Decode(*ids);
    if ((*tokenizer)->keeps_text() && decoded != text) abort();
    for (uint32_t id : *ids) {
      if (id >= (*tokenizer)->vocab_size()) abort();
      (void)DisplayToken((*tokenizer)->TokenBytes(id));
    }
  }
  return 0;
}
