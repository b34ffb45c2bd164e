// Any bytes as JSON Lines, and as a text cut at a separator: refused, or every document is a text.
//
//   input  the field or separator, up to a line break | the file

#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/formats/utf8.h"
#include "server/text/document_source.h"
#include "tests/fuzz/memory_file.h"

namespace featurescope {
namespace {

CompressedFile Open(absl::string_view bytes) {
  auto file = CompressedFile::FromFd(MemoryFile(bytes), bytes.size(), "f");
  if (!file.ok()) abort();
  return *std::move(file);
}

void ReadJsonLines(absl::string_view bytes, const DocumentOptions& options) {
  const auto source = OpenJsonLines(Open(bytes), options);
  if (!source.ok()) abort();
  Record record;
  for (uint64_t last = 0;; last = record.number) {
    const auto more = (*source)->Next(&record);
    if (!more.ok() || !*more) return;
    if (record.number <= last) abort();
    const auto text = (*source)->Text(record);
    const absl::string_view shown = text.ok() ? absl::string_view(*text) : text.status().message();
    if (ValidUtf8Prefix(shown) != shown.size()) abort();
  }
}

// The pieces and the separators between them are the text.
void ReadText(absl::string_view bytes, const DocumentOptions& options) {
  const auto source = OpenTextDocuments(Open(bytes), options);
  if (!source.ok()) abort();
  const bool is_plain = (*source)->file().compression() == Compression::kNone;
  std::string joined;
  Record record;
  while (true) {
    const auto more = (*source)->Next(&record);
    if (!more.ok()) return;
    if (!*more) break;
    joined += (record.number == 1 ? "" : options.text_separator) + record.bytes;
    (void)(*source)->Text(record);
  }
  if (is_plain && joined != bytes && joined + options.text_separator != bytes) abort();
}

}  // namespace
}  // namespace featurescope

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  absl::string_view input(reinterpret_cast<const char*>(data), size);
  DocumentOptions options;
  options.text_field = std::string(TakeLine(&input));
  options.text_separator = options.text_field;
  ReadJsonLines(input, options);
  ReadText(input, options);
  return 0;
}
